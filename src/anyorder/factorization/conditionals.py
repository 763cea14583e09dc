"""What a network says of tokens: one distribution a slot."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self, override

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from anyorder.factorization.categorical import forbid
from anyorder.factorization.precision import at_least_float32


class Conditionals(ABC):
    """One distribution over the vocabulary for each slot, of shape (batch, slots) unless indexed.

    Families score by ``log_prob``, which may be cheaper than ``logits``: those are for sampling and constraints.

    Attributes:
        logits: log-probabilities of all tokens up to a constant per slot, (batch, slots, vocabulary).
        sizes: where tokens are ordered numbers, how many each digit has, the fastest first; None where they are not.
    """

    logits: Tensor
    sizes: tuple[int, ...] | None

    @abstractmethod
    def log_prob(self, tokens: Tensor) -> Tensor:
        """Return the log-probability of a token in each slot, nats, of the shape of ``tokens``, float32 at least."""

    @abstractmethod
    def __getitem__(self, index: Any) -> Self:
        """Return the conditionals of some slots; ``index`` is that of a tensor (batch, slots)."""

    def marginals(self, sizes: Sequence[int]) -> list[Tensor]:
        """Return log-probabilities of each digit's numbers, (..., size), nats, where ``sizes`` says the digits.

        They are for tokens that are ordered numbers; see ``Ordinal``.
        """
        return per_digit(torch.log_softmax(at_least_float32(self.logits), -1), sizes, torch.logsumexp)

    def mean(self, sizes: Sequence[int]) -> Tensor:
        """Return the expected number of each digit, (..., digits), where ``sizes`` says the digits."""
        laws = self.marginals(sizes)
        return torch.stack([(law.exp() * torch.arange(law.shape[-1]).to(law)).sum(-1) for law in laws], -1)

    def at(self, slots: Tensor) -> Self:
        """Return the conditionals of one slot in each row, (batch,): ``slots`` (batch,), int64."""
        return self[torch.arange(len(slots), device=slots.device), slots]

    def marked(self, where: Tensor) -> "Categorical":
        """Return those of the marked slots, (count,): ``where`` boolean (batch, slots)."""
        return Categorical(self.logits[where], self.sizes)

    def weighted(self, log_weights: Tensor) -> "Conditionals":
        """Return the conditionals proportional to these times weights, nats (batch, slots, vocabulary)."""
        return Categorical(at_least_float32(self.logits) + log_weights, self.sizes)

    def restricted(self, allowed: Tensor) -> "Categorical":
        """Return the conditionals that know only ``allowed`` tokens, boolean (batch, slots, vocabulary)."""
        return Categorical(forbid(self.logits, allowed), self.sizes)


@dataclass(frozen=True)
class Categorical(Conditionals):
    """Logits of all tokens, as of a free softmax over the vocabulary.

    >>> answer = Categorical(torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]))
    >>> answer.log_prob(torch.tensor([[0, 1]]))
    tensor([[-0.6931, -0.3133]])
    >>> answer.at(torch.tensor([1])).logits
    tensor([[0., 1.]])
    """

    logits: Tensor
    sizes: tuple[int, ...] | None = None

    @override
    def log_prob(self, tokens: Tensor) -> Tensor:
        scores = torch.log_softmax(at_least_float32(self.logits), -1)
        return scores.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    @override
    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.logits[index], self.sizes)


@dataclass(frozen=True)
class Ordinal(Conditionals):
    """A discretized mixture of logistics over tokens that are ordered numbers.

    A token is one number, or several: its digits ``d_0 + n_0 (d_1 + n_1 (...))``, which are independent of each other
    given the slot. Formula for a digit v of 0..n-1, with S the logistic function:
    ``P(v) = sum_k w_k [S((v + 1/2 - m_k) / s_k) - S((v - 1/2 - m_k) / s_k)]``, where the first and the last number take
    the tails, so that the sum over v is 1 exactly (the head of PixelCNN++, Salimans et al., 2017, arXiv 1701.05517;
    for diffusion over numbers Austin et al., 2021, arXiv 2107.03006). Near numbers are alike from the start: a free
    softmax has to learn that for each of them.

    Attributes:
        mixture: log w in nats, m and log s, both of numbers, (batch, slots, digits, 3, components).
        sizes: how many numbers each digit has, the fastest first; their product is the vocabulary.

    >>> answer = Ordinal(torch.tensor([0.0, 2.0, 0.0]).view(1, 1, 1, 3, 1), (5,))
    >>> answer.log_prob(torch.tensor([[2]])).exp()
    tensor([[0.2449]])
    >>> answer.logits.exp().sum(-1)
    tensor([[1.]])
    """

    mixture: Tensor
    sizes: tuple[int, ...]

    @override
    def log_prob(self, tokens: Tensor) -> Tensor:
        return self.mass(digits(tokens, self.sizes)).sum(-1)

    @cached_property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Log-probabilities of all tokens, (batch, slots, vocabulary), nats."""
        tables = self.marginals(self.sizes)
        total = tables[-1]
        # The fastest digit is innermost.
        for table in reversed(tables[:-1]):
            total = (total.unsqueeze(-1) + table.unsqueeze(-2)).flatten(-2)
        return total

    @override
    def marginals(self, sizes: Sequence[int]) -> list[Tensor]:
        return [every_mass(mixture, size) for mixture, size in zip(self.mixture.unbind(-3), sizes, strict=True)]

    @override
    def mean(self, sizes: Sequence[int]) -> Tensor:
        """Return the expected number of each digit, (..., digits): the sum of the chances to be past each edge."""
        return torch.stack(
            [expected(mixture, size) for mixture, size in zip(self.mixture.unbind(-3), sizes, strict=True)], -1
        )

    def mass(self, numbers: Tensor) -> Tensor:
        """Return the log-probability of a number of each digit, nats: (..., digits) for ``numbers`` (..., digits)."""
        last = torch.tensor(self.sizes, device=numbers.device) - 1
        first, last = (numbers == 0).unsqueeze(-1), (numbers == last).unsqueeze(-1)
        log_weights, locations, log_scales = self.mixture.unbind(-2)
        precision = torch.exp(-log_scales)
        offset = numbers.to(locations).unsqueeze(-1) - locations
        below, above = logsigmoid((offset + 0.5) * precision), logsigmoid((0.5 - offset) * precision)
        # S(a) - S(b) = S(a) S(-b) (1 - exp(b - a)), and a - b is the precision.
        between = torch.log(-torch.expm1(-precision)).masked_fill(first | last, 0.0)
        scores = below.masked_fill(last, 0.0) + above.masked_fill(first, 0.0) + between
        return torch.logsumexp(log_weights + scores, -1)

    @override
    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.mixture[index], self.sizes)


@dataclass(frozen=True)
class Mixture(Conditionals):
    """An ordinal law and a free softmax, mixed by a gate in each slot.

    Formula: ``P = (1 - g) P_ordinal + g P_softmax``; the softmax has what numbers cannot say, as one likely value far
    from all others.

    Attributes:
        numbers: the ordinal law.
        free: the softmax.
        gate: logit of g, the softmax's share, (batch, slots).

    >>> numbers = Ordinal(torch.tensor([0.0, 2.0, 0.0]).view(1, 1, 1, 3, 1), (5,))
    >>> answer = Mixture(numbers, Categorical(torch.zeros(1, 1, 5)), torch.zeros(1, 1))
    >>> answer.log_prob(torch.tensor([[2]])).exp()
    tensor([[0.2225]])
    """

    numbers: Ordinal
    free: Categorical
    gate: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Those of the ordinal law."""
        return self.numbers.sizes

    @override
    def log_prob(self, tokens: Tensor) -> Tensor:
        return self.mix(self.numbers.log_prob(tokens), self.free.log_prob(tokens), self.gate)

    @cached_property
    def logits(self) -> Tensor:  # type: ignore[override]
        """Log-probabilities of all tokens, (batch, slots, vocabulary), nats."""
        free = torch.log_softmax(at_least_float32(self.free.logits), -1)
        return self.mix(self.numbers.logits, free, self.gate.unsqueeze(-1))

    def mix(self, numbers: Tensor, free: Tensor, gate: Tensor) -> Tensor:
        """Return the mixture's log-probability from those of its parts, nats."""
        return torch.logaddexp(logsigmoid(-gate) + numbers, logsigmoid(gate) + free)

    @override
    def __getitem__(self, index: Any) -> Self:
        return type(self)(self.numbers[index], self.free[index], self.gate[index])


def expected(mixture: Tensor, size: int) -> Tensor:
    """Return the expected number of a digit, (...), for a mixture (..., 3, components)."""
    log_weights, locations, log_scales = mixture.unsqueeze(-2).unbind(-3)
    edges = torch.arange(size - 1, device=mixture.device, dtype=mixture.dtype).unsqueeze(-1) + 0.5
    past = torch.sigmoid((locations - edges) * torch.exp(-log_scales))
    return (log_weights.exp() * past).sum((-1, -2))


def every_mass(mixture: Tensor, size: int) -> Tensor:
    """Return what ``Ordinal.mass`` does for each of a digit's numbers: (..., size) for a mixture (..., 3, components).

    Neighbors share the edge between them, so this costs half of asking for each.
    """
    log_weights, locations, log_scales = mixture.unsqueeze(-2).unbind(-3)
    edges = torch.arange(size - 1, device=mixture.device, dtype=mixture.dtype).unsqueeze(-1) + 0.5
    precision = torch.exp(-log_scales)
    standard = (edges - locations) * precision
    below, above = logsigmoid(standard), logsigmoid(-standard)
    inside = below[..., 1:, :] + above[..., :-1, :] + torch.log(-torch.expm1(-precision))
    sure = torch.zeros_like(log_weights) if size == 1 else log_weights[..., :0, :]
    scores = torch.cat([sure, below[..., :1, :], inside, above[..., -1:, :]], -2)
    return torch.logsumexp(log_weights + scores, -1)


def per_digit(scores: Tensor, sizes: Sequence[int], pooled: Callable[[Tensor, list[int]], Tensor]) -> list[Tensor]:
    """Return scores of tokens, (..., vocabulary), as those of each digit's numbers, (..., size).

    Args:
        scores: of the tokens.
        sizes: how many numbers each digit of a token has, the fastest first.
        pooled: pools a table over some of its axes, those of the other digits.

    >>> per_digit(torch.tensor([1, 2, 3, 4]), (2, 2), torch.sum)
    [tensor([4, 6]), tensor([3, 7])]
    """
    # The fastest digit is innermost.
    table = scores.reshape(*scores.shape[:-1], *reversed(sizes))
    places = range(-len(sizes), 0)
    others = [[place for place in places if place != -1 - digit] for digit in range(len(sizes))]
    return [pooled(table, rest) if rest else table for rest in others]


def digits(tokens: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the numbers that tokens are made of, the fastest first: (...) to (..., digits), int64.

    >>> digits(torch.tensor([0, 1, 9]), (2, 5))
    tensor([[0, 0],
            [1, 0],
            [1, 4]])
    """
    parts = []
    for size in sizes:
        parts.append(tokens % size)
        tokens = tokens // size
    return torch.stack(parts, -1)
