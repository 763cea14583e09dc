"""Which token sequences are legal, as a finite automaton, and how to sample only those in any order."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from anyorder.errors import ConfigError, bad_value


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
    def into(self) -> tuple[Tensor, Tensor]:
        """The transitions into each state: where from, and by which class, both (states, most that lead into one).

        Places to spare hold class ``classes``, which no token has.
        """
        source, token_class = torch.nonzero(self.next_state >= 0, as_tuple=True)
        target = self.next_state[source, token_class]
        order = torch.argsort(target, stable=True)
        count = torch.bincount(target, minlength=self.states)
        place = torch.arange(len(order), device=order.device) - (count.cumsum(0) - count)[target[order]]
        shape = (self.states, max(1, int(count.max())))
        origin = torch.zeros(shape, dtype=torch.int64, device=order.device)
        by = torch.full(shape, self.classes, device=order.device)
        origin[target[order], place], by[target[order], place] = source[order], token_class[order]
        return origin, by

    @cached_property
    def ending(self) -> Tensor:
        """The token that every state allows alone and stays in by, (states,) int64; -1 where there is none."""
        count = torch.bincount(self.token_class, minlength=self.classes)
        allowed = self.next_state >= 0
        token_class = allowed.long().argmax(1)
        stays = self.next_state.gather(1, token_class.unsqueeze(1)).squeeze(1) == torch.arange(
            self.states, device=allowed.device
        )
        only = stays & (allowed.sum(1) == 1) & (count[token_class] == 1)
        first = torch.stack([(self.token_class == c).long().argmax() for c in range(self.classes)])
        return torch.where(only, first[token_class], -1)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.next_state.shape[1]

    def may_be(self, tokens: Tensor) -> Tensor:
        """Say which classes a place may have, (..., classes + 1): any where its token is free (< 0), else its own."""
        own = torch.nn.functional.one_hot(self.token_class[tokens.clamp_min(0)], self.classes + 1).bool()
        every = torch.arange(self.classes + 1, device=tokens.device) < self.classes
        return torch.where((tokens < 0).unsqueeze(-1), every, own)

    def to(self, device: torch.device | str) -> "TokenAutomaton":
        """Return the automaton with its tables on ``device``."""
        return TokenAutomaton(
            self.token_class.to(device), self.next_state.to(device), self.start, self.accept
        )

    def accepts(self, tokens: Tensor) -> Tensor:
        """Say which sequences are legal: tokens (batch, length), integers -> bool (batch,)."""
        tokens = tokens.long()
        state = torch.full(tokens.shape[:1], self.start, device=tokens.device)
        for i in range(tokens.shape[1]):
            following = self.next_state[state.clamp_min(0), self.token_class[tokens[:, i]]]
            state = torch.where(state < 0, state, following)
        return state == self.accept

    def retreat(self, following: Tensor, may: Tensor) -> Tensor:
        """Return the states that lead into ``following`` (batch, states) by classes that ``may`` be."""
        return (self._leads(following) & may[:, None, :-1]).any(2)

    def advance(self, before: Tensor, may: Tensor) -> Tensor:
        """Return the states that ``before`` (batch, states) lead into by classes that ``may`` be."""
        origin, by = self.into
        return (before[:, origin] & may[:, by]).any(2)

    def allowed_tokens(self, before: Tensor, following: Tensor) -> Tensor:
        """Say which tokens lead from one of the states ``before`` into one of ``following``.

        Args:
            before: reachable states, boolean (..., states).
            following: states that can be completed, boolean (..., states).

        Returns:
            Boolean (..., vocabulary).
        """
        rows = max(1, LARGEST // self.next_state.numel())
        parts = zip(before.flatten(0, -2).split(rows), following.flatten(0, -2).split(rows), strict=True)
        classes = torch.cat([(self._leads(after) & at.unsqueeze(2)).any(1) for at, after in parts])
        return classes.view(*before.shape[:-1], self.classes)[..., self.token_class]

    def _leads(self, following: Tensor) -> Tensor:
        """Say which class leads from which state into ``following`` (batch, states): (batch, states, classes)."""
        return following[:, self.next_state.clamp_min(0)] & (self.next_state >= 0)


LARGEST = 2**24
"""Elements of a temporary table, at most: 16 MiB."""


class LegalTokens:
    """Which tokens may stand where, given those already placed; a new token recomputes only what it changed.

    Left to right that is one state a token, in any order at most a pass over the code.

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
        batch, length = tokens.shape
        # What each place may be, (length, batch, classes + 1).
        self._may = automaton.may_be(tokens.T)
        states = torch.zeros(length + 1, batch, automaton.states, dtype=torch.bool, device=tokens.device)
        # Entry i is about the states before position i; those outside known bounds are stale.
        self._reachable, self._completable = states, states.clone()
        self._reachable[0, :, automaton.start] = True
        self._completable[length, :, automaton.accept] = True
        self._reachable_to, self._completable_from = 0, length
        first, given = self.allowed(0), tokens[:, 0]
        possible = torch.where(given < 0, first.any(1), first.gather(1, given.clamp_min(0)[:, None])[:, 0])
        if not bool(possible.all()):
            row = int((~possible).nonzero()[0])
            allowed = "tokens that a legal sequence has at these positions"
            raise ConfigError(bad_value(f"known, row {row}", tokens[row].tolist(), allowed))

    def _know(self, first: int, last: int) -> None:
        """Bring up to date what is reachable before ``last`` and completable after ``first``."""
        for j in range(self._reachable_to, last):
            self._reachable[j + 1] = self.automaton.advance(self._reachable[j], self._may[j])
        for j in range(self._completable_from - 1, first, -1):
            self._completable[j] = self.automaton.retreat(self._completable[j + 1], self._may[j])
        self._reachable_to = max(self._reachable_to, last)
        self._completable_from = min(self._completable_from, first + 1)

    def allowed(self, i: int) -> Tensor:
        """Say which tokens at position ``i`` leave the sequence completable, boolean (batch, vocabulary)."""
        self._know(i, i)
        return self.automaton.allowed_tokens(self._reachable[i], self._completable[i + 1])

    def allowed_part(self, first: int, last: int) -> Tensor:
        """Say what ``allowed`` does for each of the positions ``first`` to ``last``, the latter excluded, at once.

        Returns:
            Boolean (batch, last - first, vocabulary).
        """
        self._know(first, last - 1)
        return self.automaton.allowed_tokens(
            self._reachable[first:last], self._completable[first + 1 : last + 1]
        ).transpose(0, 1)

    def allowed_rows(self, positions: Tensor) -> Tensor:
        """Say what ``allowed`` does for another position in each row, (batch,)."""
        self._know(*extremes(positions))
        rows = torch.arange(len(positions), device=positions.device)
        return self.automaton.allowed_tokens(
            self._reachable[positions, rows], self._completable[positions + 1, rows]
        )

    def ended(self, i: int) -> Tensor | None:
        """Return the one token that fills each row from position ``i`` on, (batch,); None if a row has a choice left.

        All before ``i`` has to be placed.
        """
        self._know(i - 1, i)
        token = self.automaton.ending[self._reachable[i].to(torch.uint8).argmax(1)]
        return token if bool((token >= 0).all()) else None

    def place(self, i: int, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at position ``i``, -1 where it stays free."""
        self.place_part(i, tokens.unsqueeze(1))

    def place_part(self, first: int, tokens: Tensor) -> None:
        """Put ``tokens`` (batch, part) at the positions from ``first`` on, -1 where they stay free."""
        last = first + tokens.shape[1]
        self._may[first:last] = self.automaton.may_be(tokens.T)
        self._changed(first, last - 1)

    def place_rows(self, positions: Tensor, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at another position in each row, (batch,)."""
        rows = torch.arange(len(positions), device=positions.device)
        self._may[positions, rows] = self.automaton.may_be(tokens)
        self._changed(*extremes(positions))

    def _changed(self, first: int, last: int) -> None:
        """Note that tokens from ``first`` to ``last`` are not what they were."""
        self._reachable_to = min(self._reachable_to, first)
        self._completable_from = max(self._completable_from, last + 1)


def extremes(positions: Tensor) -> tuple[int, int]:
    """Return the first and the last of ``positions`` (batch,), read from the device at once.

    >>> extremes(torch.tensor([3, 1, 2]))
    (1, 3)
    """
    first, last = torch.stack(positions.aminmax()).tolist()
    return first, last


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
