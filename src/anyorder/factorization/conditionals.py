"""What a network says of tokens: one distribution a slot."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self, override

import torch
from torch import Tensor

from anyorder.factorization.precision import at_least_float32


class Conditionals(ABC):
    """One distribution over the vocabulary for each slot, of shape (batch, slots) unless indexed.

    Families score by ``log_prob``, which may be cheaper than ``logits``: those are for sampling and constraints.

    Attributes:
        logits: log-probabilities of all tokens up to a constant per slot, (batch, slots, vocabulary).
    """

    logits: Tensor

    @abstractmethod
    def log_prob(self, tokens: Tensor) -> Tensor:
        """Return the log-probability of a token in each slot, nats, of the shape of ``tokens``, float32 at least."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Self:
        """Return the conditionals of some slots; ``index`` is that of a tensor (batch, slots)."""

    def at(self, slots: Tensor) -> Self:
        """Return the conditionals of one slot in each row, (batch,): ``slots`` (batch,), int64."""
        return self[torch.arange(len(slots), device=slots.device), slots]


@dataclass(frozen=True)
class Categorical(Conditionals):
    """A free softmax over the vocabulary.

    >>> answer = Categorical(torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]))
    >>> answer.log_prob(torch.tensor([[0, 1]]))
    tensor([[-0.6931, -0.3133]])
    >>> answer.at(torch.tensor([1])).logits
    tensor([[0., 1.]])
    """

    logits: Tensor

    @override
    def log_prob(self, tokens: Tensor) -> Tensor:
        scores = torch.log_softmax(at_least_float32(self.logits), -1)
        return scores.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    @override
    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.logits[index])
