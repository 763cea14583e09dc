"""Samplers of masked diffusion: in which order, and how many at a time, masked tokens are revealed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.categorical import uniforms

Confidences = Callable[[], Tensor]


class Sampler(ABC):
    """Says which masked positions a sampling step reveals."""

    @abstractmethod
    def forwards(self, length: int) -> int:
        """Return the number of steps for a code of ``length`` free tokens."""

    @abstractmethod
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Choose positions to reveal in step ``step`` of ``steps``.

        Args:
            step: 0 for the first step.
            steps: how many steps there are.
            masked: still masked positions, boolean (batch, length).
            confidence: computes the probability of each position's candidate token, (batch, length); it costs a
                pass over the code, so only samplers that rank by it should call it.
            generator: source of randomness.

        Returns:
            Boolean (batch, length), a subset of ``masked``; the last step reveals everything.
        """


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The reverse process on a linear schedule t = 1 ... 0: each masked token is revealed with chance (t - s) / t."""

    steps: int

    def forwards(self, length: int) -> int:
        """Return the number of steps."""
        return self.steps

    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal each masked position independently."""
        return masked & (uniforms(tuple(masked.shape), generator) < 1 / (steps - step))


@dataclass(frozen=True)
class Confidence(Sampler):
    """Reveal the most confident candidates, an equal share in each step (MaskGIT arXiv 2202.04200, LLaDA 2502.09992).

    Fast and mode seeking: it does not sample the joint, even with exact conditionals.
    """

    steps: int

    def forwards(self, length: int) -> int:
        """Return the number of steps, at most one per token."""
        return min(self.steps, length)

    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal the top share of what is left."""
        return top_share(confidence(), masked, steps - step)


@dataclass(frozen=True)
class OneByOne(Sampler):
    """One token a step in uniformly random order: exact for the any-order joint, as many forwards as tokens."""

    def forwards(self, length: int) -> int:
        """Return one step per token."""
        return length

    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal one random masked position."""
        return top_share(uniforms(tuple(masked.shape), generator), masked, steps - step)


@dataclass(frozen=True)
class LeftToRight(Sampler):
    """Reveal in code order, an equal share in each step; with one token a step, the chain rule in that order.

    For codes whose later tokens depend on the earlier ones' kind, as the lengths of byte pairs do, where confidence
    would commit to the padding first.
    """

    steps: int

    def forwards(self, length: int) -> int:
        """Return the number of steps, at most one per token."""
        return min(self.steps, length)

    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal the first share of what is left."""
        order = -torch.arange(masked.shape[1], device=masked.device, dtype=torch.float32)
        return top_share(order.expand(masked.shape), masked, steps - step)


def top_share(score: Tensor, masked: Tensor, steps_left: int) -> Tensor:
    """Mark the highest-scoring ``ceil(masked / steps_left)`` masked positions of each row.

    >>> score = torch.tensor([[0.9, 0.1, 0.5, 0.7]])
    >>> top_share(score, torch.tensor([[False, True, True, True]]), steps_left=2)
    tensor([[False, False,  True,  True]])
    """
    count = (masked.sum(-1, keepdim=True) + steps_left - 1) // steps_left
    best_first = torch.argsort(
        score.masked_fill(~masked, float("-inf")), dim=-1, descending=True, stable=True
    )
    rank = torch.argsort(best_first, dim=-1)
    return masked & (rank < count)
