"""Training targets that know numbers: what a loss adds to the likelihood of tokens that are ordered numbers."""

from dataclasses import dataclass
from typing import Any, Self, override

import torch
from torch import Tensor

from anyorder.factorization.conditionals import Conditionals, digits
from anyorder.factorization.slots import AskingNetwork


@dataclass(frozen=True)
class Lesson:
    """What is added to the log-probability of a token in the training loss, so that near numbers count as near.

    Formula, for a token of numbers x, with p the network's law of a digit and the sum over digits:
    ``soft_targets * sum_v q(v | x) log p(v) - expected_l1 * |E_p[v] - x|``, where q(v | x) is proportional to
    ``exp(-(v - x)^2 / (2 soft_width^2))`` over the digit's numbers. The first term is that of DIST2Loss (Chung et al.,
    2025, "Teaching Metric Distance to Discrete Autoregressive Language Models", arXiv 2503.02379), the second an L1 of
    the expected chunk where decoding is linear, as in DiscreteRTC (2026, arXiv 2604.25050). There it counts at all
    positions, here at those that the family scores.

    Attributes:
        sizes: how many numbers each digit of a token has, the fastest first.
        soft_targets: weight of the cross-entropy against q.
        soft_width: standard deviation of q, in numbers.
        expected_l1: weight of the distance of the expected number, nats per number.

    >>> from anyorder.factorization.conditionals import Categorical
    >>> lesson = Lesson((3,), soft_targets=0.0, soft_width=0.7, expected_l1=2.0)
    >>> lesson.score(Categorical(torch.zeros(1, 2, 3)), torch.tensor([[0, 2]])).round(decimals=3)
    tensor([[-2., -2.]])
    """

    sizes: tuple[int, ...]
    soft_targets: float
    soft_width: float
    expected_l1: float

    def score(self, answer: Conditionals, tokens: Tensor) -> Tensor:
        """Return what is added for a token in each slot, of the shape of ``tokens``, nats, float32 at least."""
        numbers = digits(tokens, self.sizes)
        total = torch.zeros(tokens.shape, device=tokens.device)
        if self.soft_targets:
            for law, x in zip(answer.marginals(self.sizes), numbers.unbind(-1), strict=True):
                total = total + self.soft_targets * (near(x, law.shape[-1], self.soft_width).to(law) * law).sum(-1)
        if self.expected_l1:
            total = total - self.expected_l1 * (answer.mean(self.sizes) - numbers).abs().sum(-1)
        return total


def near(x: Tensor, size: int, width: float) -> Tensor:
    """Return q(v | x) of ``Lesson`` for the numbers of a digit: (...) to (..., size), float32.

    >>> near(torch.tensor(1), 3, 1.0)
    tensor([0.2741, 0.4519, 0.2741])
    """
    distance = (torch.arange(size, device=x.device) - x.unsqueeze(-1)) / width
    return torch.softmax(-distance.square() / 2, -1)


class Taught(AskingNetwork):
    """A network for a training loss: its answers' log-probabilities are training scores by a ``Lesson``.

    They are no likelihoods: nothing else asks it.
    """

    def __init__(self, network: Any, lesson: Lesson) -> None:
        super().__init__(network)
        self.lesson = lesson

    @override
    def __call__(self, *asked: Any, **options: Any) -> Any:
        """Ask, as one asks a ``TokenNetwork``."""
        answer, cache = self.network(*asked, **options)
        return TaughtConditionals(answer, self.lesson), cache


@dataclass(frozen=True)
class TaughtConditionals(Conditionals):
    """A network's answer whose ``log_prob`` is its training score; all else is its own."""

    answer: Conditionals
    lesson: Lesson

    @property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Those of the answer."""
        return self.answer.logits

    @property
    def sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the lesson."""
        return self.lesson.sizes

    @override
    def log_prob(self, tokens: Tensor) -> Tensor:
        return self.answer.log_prob(tokens) + self.lesson.score(self.answer, tokens)

    @override
    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.answer[index], self.lesson)

    @override
    def weighted(self, log_weights: Tensor) -> "TaughtConditionals":
        return TaughtConditionals(self.answer.weighted(log_weights), self.lesson)
