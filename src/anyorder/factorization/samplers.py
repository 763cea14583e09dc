"""In which order, and how many at a time, masked tokens are revealed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.categorical import uniforms
from anyorder.factorization.precision import widest
from anyorder.factorization.schedules import Linear, Schedule

Confidences = Callable[[], Tensor]
"""The probability of each position's candidate token, (batch, length); it costs a pass over the code, so only samplers
that rank by it call it."""


class Sampler(ABC):
    """Says which masked positions a step reveals, and which revealed ones it masks again.

    Attributes:
        simulates: its samples follow the model; False where it seeks modes, or approximates better with more steps.
        revises: it masks tokens again.
    """

    simulates: bool = False
    revises: bool = False

    @abstractmethod
    def calls(self, length: int) -> int:
        """Return the number of steps for a code of ``length`` free tokens; the most, where that adapts."""

    @abstractmethod
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Choose positions to reveal in step ``step`` of ``steps``.

        Args:
            step: 0 for the first step.
            steps: how many steps there are.
            masked: still masked positions, boolean (batch, length).
            confidence: computes the confidences.
            generator: source of randomness.

        Returns:
            Boolean (batch, length), a subset of ``masked``; the last step reveals everything.
        """

    def remask(self, step: int, steps: int, shown: Tensor, generator: torch.Generator) -> Tensor:
        """Choose positions among those ``shown`` before this step (batch, length) to mask again after it."""
        return torch.zeros_like(shown)


@dataclass(frozen=True)
class Ancestral(Sampler):
    """The reverse process in ``steps`` steps from t = 1 to 0: a token is revealed with chance (m(t) - m(s)) / m(t).

    Tokens revealed in one step are drawn independently, which is right in the limit of many steps. ``steps`` 0 is one
    a token.
    """

    steps: int
    schedule: Schedule = field(default_factory=Linear)

    @override
    def calls(self, length: int) -> int:
        """Return the number of steps; those that reveal nothing cost no call."""
        return self.steps or length

    def chances(self, step: int, steps: int) -> tuple[float, float]:
        """Return the probabilities to show a masked token and to mask a shown one."""
        now, after = mask_chances(self.schedule, step, steps)
        return (now - after) / now, 0.0

    @override
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        return masked & (uniforms(tuple(masked.shape), generator) < self.chances(step, steps)[0]).to(masked.device)


@dataclass(frozen=True)
class Remasking(Ancestral):
    """Ancestral steps that may also take tokens back: ReMDM with a capped rate (arXiv 2503.00307).

    From t to s a shown token is masked with probability ``r = min(rate, m(s) / (1 - m(t)))`` and a masked one shown
    with ``(m(t) - m(s) + r (1 - m(t))) / m(t)``, which keeps the share of masks on schedule.
    """

    rate: float = 0.1
    revises = True

    @override
    def chances(self, step: int, steps: int) -> tuple[float, float]:
        now, after = mask_chances(self.schedule, step, steps)
        if now >= 1.0:
            return 1 - after, 0.0
        again = min(self.rate, after / (1 - now))
        return (now - after + again * (1 - now)) / now, again

    @override
    def remask(self, step: int, steps: int, shown: Tensor, generator: torch.Generator) -> Tensor:
        """Mask each shown position again, independently."""
        return shown & (uniforms(tuple(shown.shape), generator) < self.chances(step, steps)[1]).to(shown.device)


@dataclass(frozen=True)
class Ranked(Sampler):
    """Reveal a share in each step, the best of what is left by a score.

    The share is the schedule's, rounded up: an equal one where that is linear. ``steps`` 0 is one a token.
    """

    steps: int
    schedule: Schedule = field(default_factory=Linear)

    @override
    def calls(self, length: int) -> int:
        return min(self.steps or length, length)

    @override
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal the top share of what is left."""
        now, after = mask_chances(self.schedule, step, steps)
        share = (now - after) / now
        # Rounded up but for what floating point adds to a whole number.
        count = (masked.sum(-1, keepdim=True) * share - ROUNDING).ceil().clamp_min(1).long()
        return top(self.score(masked, confidence), masked, count)

    @abstractmethod
    def score(self, masked: Tensor, confidence: Confidences) -> Tensor:
        """Return each position's score, of the shape of ``masked`` (batch, length)."""


@dataclass(frozen=True)
class Confidence(Ranked):
    """Reveal the most confident candidates first (MaskGIT arXiv 2202.04200, LLaDA 2502.09992).

    Fast and mode seeking: it does not sample the joint, even with exact conditionals. Nothing is ever masked again.
    """

    @override
    def score(self, masked: Tensor, confidence: Confidences) -> Tensor:
        return confidence()


@dataclass(frozen=True)
class Threshold(Sampler):
    """Reveal every candidate with a confidence of ``threshold``, at least the best one (Fast-dLLM, arXiv 2505.22618).

    The number of steps adapts to how sure the network is. Mode seeking.
    """

    threshold: float

    @override
    def calls(self, length: int) -> int:
        return length

    @override
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        """Reveal the best masked position and all that are sure enough."""
        score = confidence()
        return top(score, masked, 1) | (masked & (score >= self.threshold))


@dataclass(frozen=True)
class FirstHitting(Sampler):
    """One token a step in uniformly random order: the reverse process in continuous time, exactly (arXiv 2409.02908).

    The times at which tokens appear need not be drawn, as the network is not told them.
    """

    simulates = True

    @override
    def calls(self, length: int) -> int:
        return length

    @override
    def reveal(
        self, step: int, steps: int, masked: Tensor, confidence: Confidences, generator: torch.Generator
    ) -> Tensor:
        return top(uniforms(tuple(masked.shape), generator).to(masked.device, widest(masked.device)), masked, 1)


@dataclass(frozen=True)
class CodeOrder(Ranked):
    """Reveal in code order; with one token a step, the chain rule in that order.

    For codes whose later tokens depend on the earlier ones' kind, as the lengths of byte pairs do, where confidence
    would commit to the padding first. In fewer steps neighbours are drawn from one call, independently, which are the
    tokens that depend on each other most.
    """

    @override
    def score(self, masked: Tensor, confidence: Confidences) -> Tensor:
        return -torch.arange(masked.shape[1], device=masked.device, dtype=torch.float32).expand(masked.shape)


@dataclass(frozen=True)
class Spread(Ranked):
    """Reveal evenly spaced positions, each step between the earlier ones (the order of van der Corput's sequence).

    Tokens of one step are drawn independently, so they are kept as far from each other as they can be: in a Markov
    chain all but the first step's are independent given what is shown.
    """

    @override
    def score(self, masked: Tensor, confidence: Confidences) -> Tensor:
        """Rank by the place's binary digits, read backwards."""
        length = masked.shape[1]
        place = torch.arange(length, device=masked.device)
        backwards = torch.zeros(length, device=masked.device)
        for digit in range(max(1, (length - 1).bit_length())):
            backwards += ((place >> digit) & 1) * 0.5 ** (digit + 1)
        return -backwards.expand(masked.shape)


ROUNDING = 1e-9
"""This is more than rounding adds to a share of a code, and less than the share of any token."""


def mask_chances(schedule: Schedule, step: int, steps: int) -> tuple[float, float]:
    """Return the chance to be masked before and after step ``step`` of ``steps`` equal ones from t = 1 to 0."""
    times = torch.tensor([1 - step / steps, 1 - (step + 1) / steps], dtype=torch.float64)
    now, after = schedule.masked(times).tolist()
    return now, 0.0 if step + 1 == steps else after


def top(score: Tensor, masked: Tensor, count: Tensor | int) -> Tensor:
    """Mark the ``count`` (batch, 1) highest-scoring masked positions of each row.

    >>> score = torch.tensor([[0.9, 0.1, 0.5, 0.7]])
    >>> top(score, torch.tensor([[False, True, True, True]]), 2)
    tensor([[False, False,  True,  True]])
    """
    best_first = torch.argsort(score.masked_fill(~masked, float("-inf")), dim=-1, descending=True, stable=True)
    rank = torch.argsort(best_first, dim=-1)
    return masked & (rank < count)
