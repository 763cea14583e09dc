"""Which token sequences are legal, as a finite automaton, and how to sample only those in any order."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import ConfigError


@dataclass(frozen=True)
class TokenAutomaton:
    """A deterministic automaton over token classes; a sequence is legal when it ends in ``accept``.

    Tokens with the same effect share a class (all tokens that stand for three coefficients, say), so the tables
    stay small. ``-1`` in ``next_state`` forbids a class in a state.

    Attributes:
        token_class: class of each token, shape (vocabulary,), int64.
        next_state: state after reading a class in a state, shape (states, classes), int64, -1 where forbidden.
        start: the state before the first token.
        accept: the state a legal sequence ends in.

    Example: sequences of two tokens with exactly one ``1``.

        >>> token_class = torch.tensor([0, 1])
        >>> one = TokenAutomaton(token_class, torch.tensor([[0, 1], [1, -1]]), start=0, accept=1)
        >>> one.accepts(torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]]))
        tensor([ True,  True, False, False])
    """

    token_class: Tensor
    next_state: Tensor
    start: int
    accept: int

    @property
    def states(self) -> int:
        """Number of states."""
        return self.next_state.shape[0]

    @cached_property
    def steps(self) -> list[list[tuple[int, int]]]:
        """The transitions of each class, those that move by one number of states together: how far, and where from.

        Sets of states are integers, state ``s`` being bit ``s``. Tokens that count move every state alike, so a class
        has one or two of these. A class that no token has has none.
        """
        taken = set(self.token_class.tolist())
        steps = []
        for token_class, column in enumerate(self.next_state.T.tolist()):
            sources: dict[int, int] = {}
            for source, target in enumerate(column):
                if target >= 0 and token_class in taken:
                    sources[target - source] = sources.get(target - source, 0) | 1 << source
            steps.append(list(sources.items()))
        return steps

    @cached_property
    def endings(self) -> dict[int, int]:
        """The states that allow one token alone and stay, as sets of one, with that token."""
        tokens: dict[int, list[int]] = {}
        for token, token_class in enumerate(self.token_class.tolist()):
            tokens.setdefault(token_class, []).append(token)
        found = {}
        for state, row in enumerate(self.next_state.tolist()):
            leads = [(token, row[c]) for c in tokens if row[c] >= 0 for token in tokens[c]]
            if len(leads) == 1 and leads[0][1] == state:
                found[1 << state] = leads[0][0]
        return found

    def to(self, device: torch.device | str) -> "TokenAutomaton":
        """Return the automaton with its tables on ``device``."""
        return TokenAutomaton(self.token_class.to(device), self.next_state.to(device), self.start, self.accept)

    def accepts(self, tokens: Tensor) -> Tensor:
        """Say which sequences are legal: tokens (batch, length), integers -> bool (batch,)."""
        tokens = tokens.long()
        state = torch.full(tokens.shape[:1], self.start, device=tokens.device)
        for i in range(tokens.shape[1]):
            following = self.next_state[state.clamp_min(0), self.token_class[tokens[:, i]]]
            state = torch.where(state < 0, state, following)
        return state == self.accept

    def advance(self, states: int, token_class: int) -> int:
        """Return the set of states that a set of them leads into by a class, by any of them where it is < 0."""
        classes = self.steps if token_class < 0 else (self.steps[token_class],)
        found = 0
        for steps in classes:
            for by, sources in steps:
                found |= moved(states & sources, by)
        return found

    def retreat(self, states: int, token_class: int) -> int:
        """Return the set of states that lead into a set of them by a class, by any of them where it is < 0."""
        classes = self.steps if token_class < 0 else (self.steps[token_class],)
        found = 0
        for steps in classes:
            for by, sources in steps:
                found |= moved(states, -by) & sources
        return found

    def between(self, before: int, after: int) -> int:
        """Return the set of classes that lead from one of the states ``before`` into one of those ``after``."""
        found = 0
        for token_class, steps in enumerate(self.steps):
            if any(moved(before & sources, by) & after for by, sources in steps):
                found |= 1 << token_class
        return found


def moved(states: int, by: int) -> int:
    """Return a set of states, each ``by`` states further.

    >>> bin(moved(0b101, 2)), bin(moved(0b101, -2))
    ('0b10100', '0b1')
    """
    return states << by if by >= 0 else states >> -by


class Row:
    """The states that one sequence may be in, before each of its positions; entries outside known bounds are stale.

    Args:
        automaton: what is legal.
        classes: of its tokens, -1 where free.
    """

    def __init__(self, automaton: TokenAutomaton, classes: list[int]) -> None:
        self.automaton, self.classes = automaton, classes
        self.reachable = [1 << automaton.start] + [0] * len(classes)
        self.completable = [0] * len(classes) + [1 << automaton.accept]
        self.reachable_to, self.completable_from = 0, len(classes)

    def before(self, i: int) -> int:
        """Return the set of states that the tokens before position ``i`` can lead to."""
        for j in range(self.reachable_to, i):
            self.reachable[j + 1] = self.automaton.advance(self.reachable[j], self.classes[j])
        self.reachable_to = max(self.reachable_to, i)
        return self.reachable[i]

    def allowed(self, i: int) -> int:
        """Return the set of classes that position ``i`` may have, whatever stands there now."""
        for j in range(self.completable_from - 1, i, -1):
            self.completable[j] = self.automaton.retreat(self.completable[j + 1], self.classes[j])
        self.completable_from = min(self.completable_from, i + 1)
        return self.automaton.between(self.before(i), self.completable[i + 1])

    def place(self, i: int, token_class: int) -> None:
        """Put a token at position ``i``, or free it."""
        if self.classes[i] != token_class:
            self.classes[i] = token_class
            self.reachable_to = min(self.reachable_to, i)
            self.completable_from = max(self.completable_from, i + 1)


class LegalTokens:
    """Which tokens may stand where, given those already placed; a new token recomputes only what it changed.

    Left to right that is one state a token, in any order at most a pass over the code. It is done on the host, with
    sets of states as integers: a pass over a code of 500 tokens takes a millisecond or two, where tensors need a
    few operations a position.

    Args:
        automaton: what is legal.
        tokens: (batch, length), -1 where still free.

    Raises:
        ConfigError: no legal sequence has these tokens.

    Example: two tokens with exactly one ``1``, the second being 0.

        >>> next_state = torch.tensor([[0, 1], [1, -1]])
        >>> one = TokenAutomaton(torch.tensor([0, 1]), next_state, start=0, accept=1)
        >>> legal = LegalTokens(one, torch.tensor([[-1, -1]]))
        >>> legal.place(1, torch.tensor([0]))
        >>> legal.allowed(0)
        tensor([[False,  True]])
    """

    def __init__(self, automaton: TokenAutomaton, tokens: Tensor) -> None:
        self.automaton = automaton
        self._rows = [Row(automaton, classes) for classes in self._classes(tokens)]
        for number, row in enumerate(self._rows):
            possible = row.allowed(0)
            if not (possible if row.classes[0] < 0 else possible >> row.classes[0] & 1):
                allowed = "tokens that a legal sequence has at these positions"
                raise ConfigError(f"known, row {number}", tokens[number].tolist(), allowed)

    def _classes(self, tokens: Tensor) -> list[Any]:
        """Return the classes of tokens of any shape, -1 where free, as nested lists."""
        classes: list[Any] = torch.where(tokens < 0, tokens, self.automaton.token_class[tokens.clamp_min(0)]).tolist()
        return classes

    def _tokens(self, classes: list[int]) -> Tensor:
        """Return which tokens are of one of the classes in each set, boolean (sets, vocabulary)."""
        distinct = {found: number for number, found in enumerate(dict.fromkeys(classes))}
        every = range(self.automaton.next_state.shape[1])
        device = self.automaton.token_class.device
        table = torch.tensor([[found >> c & 1 for c in every] for found in distinct], device=device) > 0
        which = torch.tensor([distinct[found] for found in classes], device=device)
        return table[:, self.automaton.token_class][which]

    def allowed(self, i: int) -> Tensor:
        """Say which tokens at position ``i`` leave the sequence completable, boolean (batch, vocabulary)."""
        return self._tokens([row.allowed(i) for row in self._rows])

    def allowed_part(self, first: int, last: int) -> Tensor:
        """Say what ``allowed`` does for each of the positions ``first`` to ``last``, the latter excluded.

        Returns:
            Boolean (batch, last - first, vocabulary).
        """
        found = self._tokens([row.allowed(i) for row in self._rows for i in range(first, last)])
        return found.view(len(self._rows), last - first, -1)

    def allowed_rows(self, positions: Tensor) -> Tensor:
        """Say what ``allowed`` does for another position in each row, (batch,)."""
        places = zip(self._rows, positions.tolist(), strict=True)
        return self._tokens([row.allowed(i) for row, i in places])

    def ended(self, i: int) -> Tensor | None:
        """Return the one token that fills each row from position ``i`` on, (batch,); None if a row has a choice left.

        All before ``i`` has to be placed.
        """
        tokens = [self.automaton.endings.get(row.before(i)) for row in self._rows]
        return None if None in tokens else torch.tensor(tokens, device=self.automaton.token_class.device)

    def place(self, i: int, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at position ``i``, -1 where it stays free."""
        self.place_part(i, tokens.unsqueeze(1))

    def place_part(self, first: int, tokens: Tensor) -> None:
        """Put ``tokens`` (batch, part) at the positions from ``first`` on, -1 where they stay free."""
        for row, classes in zip(self._rows, self._classes(tokens), strict=True):
            for i, token_class in enumerate(classes, first):
                row.place(i, token_class)

    def place_rows(self, positions: Tensor, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at another position in each row, (batch,)."""
        for row, i, token_class in zip(self._rows, positions.tolist(), self._classes(tokens), strict=True):
            row.place(i, token_class)


def count_automaton(count: Tensor, total: int) -> TokenAutomaton:
    """Return the automaton of sequences whose tokens' counts sum to ``total``, then END, then only PAD.

    Args:
        count: coefficients each token stands for, (tokens,); END and PAD are the two tokens after them.
        total: coefficients of a chunk.

    >>> automaton = count_automaton(torch.tensor([1, 1, 2]), total=2)
    >>> automaton.accepts(torch.tensor([[0, 1, 3], [2, 3, 4], [2, 4, 3]]))
    tensor([ True,  True, False])
    """
    sizes, size_class = torch.unique(count, return_inverse=True)
    end, pad, ended = len(sizes), len(sizes) + 1, total + 1
    reached = torch.arange(total + 1, device=count.device)[:, None] + sizes
    next_state = torch.full((total + 2, len(sizes) + 2), -1, device=count.device)
    next_state[: total + 1, :end] = torch.where(reached <= total, reached, -1)
    next_state[total, end] = ended
    next_state[ended, pad] = ended
    token_class = torch.cat([size_class, size_class.new_tensor([end, pad])])
    return TokenAutomaton(token_class, next_state, start=0, accept=ended)
