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
    def any_transition(self) -> Tensor:
        """Float (states, states): 1 where some class leads from ``s`` to ``t``."""
        table = torch.zeros(self.states, self.states, device=self.next_state.device)
        source, token_class = torch.nonzero(self.next_state >= 0, as_tuple=True)
        table[source, self.next_state[source, token_class]] = 1.0
        return table

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

    def retreat(self, following: Tensor, tokens: Tensor) -> Tensor:
        """Return the states that lead into ``following`` (batch, states) by tokens (batch,), -1 where free."""
        free = (following.float() @ self.any_transition.T) > 0
        target = self.next_state[:, self.token_class[tokens.clamp_min(0)]].T
        fixed = following.gather(1, target.clamp_min(0)) & (target >= 0)
        return torch.where((tokens < 0).unsqueeze(1), free, fixed)

    def _class_allowed(self, following: Tensor) -> Tensor:
        """Say which class leads from which state into ``following`` (batch, states): (batch, states, classes)."""
        target = self.next_state.clamp_min(0)
        return following[:, target] & (self.next_state >= 0)

    def allowed_tokens(self, before: Tensor, following: Tensor) -> Tensor:
        """Say which tokens lead from one of the states ``before`` into one of ``following``.

        Args:
            before: reachable states, boolean (batch, states).
            following: states that can be completed, boolean (batch, states).

        Returns:
            Boolean (batch, vocabulary).
        """
        classes = (self._class_allowed(following) & before.unsqueeze(2)).any(1)
        return classes[:, self.token_class]

    def advance(self, before: Tensor, tokens: Tensor) -> Tensor:
        """Return the states reachable after one more position: (batch, states), tokens (batch,), -1 where free."""
        free = (before.float() @ self.any_transition) > 0
        target = self.next_state[:, self.token_class[tokens.clamp_min(0)]].T
        allowed = before & (target >= 0)
        # Added, not assigned, as two states may lead to the same one.
        fixed = torch.zeros_like(before, dtype=torch.float32)
        fixed.scatter_add_(1, target.clamp_min(0), allowed.float())
        return torch.where((tokens < 0).unsqueeze(1), free, fixed > 0)


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
        self._tokens = tokens.clone()
        batch, length = tokens.shape
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

    def allowed(self, i: int) -> Tensor:
        """Say which tokens at position ``i`` leave the sequence completable, boolean (batch, vocabulary)."""
        for j in range(self._reachable_to, i):
            self._reachable[j + 1] = self.automaton.advance(self._reachable[j], self._tokens[:, j])
        for j in range(self._completable_from - 1, i, -1):
            self._completable[j] = self.automaton.retreat(self._completable[j + 1], self._tokens[:, j])
        self._reachable_to = max(self._reachable_to, i)
        self._completable_from = min(self._completable_from, i + 1)
        return self.automaton.allowed_tokens(self._reachable[i], self._completable[i + 1])

    def place(self, i: int, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at position ``i``, -1 where it stays free."""
        self._tokens[:, i] = tokens
        self._reachable_to = min(self._reachable_to, i)
        self._completable_from = max(self._completable_from, i + 1)

    def allowed_rows(self, positions: Tensor) -> Tensor:
        """Say what ``allowed`` does for another position in each row, (batch,)."""
        columns, which = torch.unique(positions, return_inverse=True)
        table = torch.stack([self.allowed(i) for i in columns.tolist()])
        return table[which, torch.arange(len(positions), device=positions.device)]

    def place_rows(self, positions: Tensor, tokens: Tensor) -> None:
        """Put ``tokens`` (batch,) at another position in each row, (batch,)."""
        for i in torch.unique(positions).tolist():
            self.place(i, torch.where(positions == i, tokens, self._tokens[:, i]))


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
