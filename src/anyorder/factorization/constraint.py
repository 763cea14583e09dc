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
    def transitions(self) -> Tensor:
        """Boolean (classes, states, states): class ``c`` leads from state ``s`` to state ``t``."""
        states, classes = self.next_state.shape
        table = torch.zeros(classes, states, states, dtype=torch.bool, device=self.next_state.device)
        source, token_class = torch.nonzero(self.next_state >= 0, as_tuple=True)
        table[token_class, source, self.next_state[source, token_class]] = True
        return table

    @cached_property
    def any_transition(self) -> Tensor:
        """Float (states, states): 1 where some class leads from ``s`` to ``t``."""
        return self.transitions.any(0).float()

    def to(self, device: torch.device | str) -> "TokenAutomaton":
        """Return the automaton with its tables on ``device``."""
        return TokenAutomaton(self.token_class.to(device), self.next_state.to(device), self.start, self.accept)

    def accepts(self, tokens: Tensor) -> Tensor:
        """Say which sequences are legal: tokens (batch, length) -> bool (batch,)."""
        state = torch.full(tokens.shape[:1], self.start, device=tokens.device)
        for i in range(tokens.shape[1]):
            following = self.next_state[state.clamp_min(0), self.token_class[tokens[:, i]]]
            state = torch.where(state < 0, state, following)
        return state == self.accept
