"""Which token sequences are legal, as a finite automaton, and how to sample only those in any order."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


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
        """Say which sequences are legal: tokens (batch, length) -> bool (batch,)."""
        state = torch.full(tokens.shape[:1], self.start, device=tokens.device)
        for i in range(tokens.shape[1]):
            following = self.next_state[state.clamp_min(0), self.token_class[tokens[:, i]]]
            state = torch.where(state < 0, state, following)
        return state == self.accept

    def completable(self, tokens: Tensor) -> Tensor:
        """Say from which states the rest of a partly known sequence can still be completed.

        Args:
            tokens: (batch, length), -1 where still free.

        Returns:
            Boolean (batch, length + 1, states): entry [:, i] for the states before position i.
        """
        batch, length = tokens.shape
        ok = torch.zeros(batch, length + 1, self.states, dtype=torch.bool, device=tokens.device)
        ok[:, length, self.accept] = True
        for i in reversed(range(length)):
            free = (ok[:, i + 1].float() @ self.any_transition.T) > 0
            target = self.next_state[:, self.token_class[tokens[:, i].clamp_min(0)]].T
            fixed = ok[:, i + 1].gather(1, target.clamp_min(0)) & (target >= 0)
            ok[:, i] = torch.where((tokens[:, i] < 0).unsqueeze(1), free, fixed)
        return ok

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

    def initial(self, batch: int) -> Tensor:
        """Return the one-hot start states, boolean (batch, states)."""
        states = torch.zeros(batch, self.states, dtype=torch.bool, device=self.next_state.device)
        states[:, self.start] = True
        return states
