"""Continuous families: their loss, what they declare, and the values while they are drawn."""

from abc import abstractmethod
from typing import final, override

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization
from anyorder.factorization.categorical import ANSWER
from anyorder.factorization.checks import check_finite, require
from anyorder.factorization.draft import Request, Sample
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import ValueNetwork


class ValueDraft:
    """The values of a chunk while they are drawn, zeros at first.

    Attributes:
        values: (batch, horizon, action size), float32 at least.
        known: the same, NaN where free; None where all are.
        generator: source of randomness.
        calls: network calls made for it.
        slots: slots in those calls, per sequence.

    Raises:
        ConfigError: a constraint on tokens, or ``known`` that is not a batch of chunks with NaN where values are free.
    """

    def __init__(self, request: Request, context: Tensor, horizon: int, action_size: int) -> None:
        allowed = "None, for continuous families"
        require(request.constraint is None, "constraint", "an automaton over tokens", allowed)
        shape, known = (context.shape[0], horizon, action_size), request.known
        good = known is None or (known.is_floating_point() and tuple(known.shape) == shape)
        given = None if known is None else (tuple(known.shape), str(known.dtype))
        require(good, "known", given, f"floating point of shape {shape}, NaN where free")
        self.known, self.generator = known, request.generator
        dtype = torch.promote_types(context.dtype, torch.float32)
        self.values = torch.zeros(shape, dtype=dtype, device=context.device)
        self.calls = self.slots = 0

    def put(self, values: Tensor) -> None:
        """Take these values, known ones in their place."""
        self.values = values if self.known is None else overwrite(values, self.known)

    def sample(self) -> Sample:
        """Return the finished sample."""
        return Sample(self.values, None, self.calls, self.slots)


class ValueFactorization(Factorization):
    """A family over the values of a chunk themselves; it has no likelihood that compares with that of tokens.

    Its loss is the mean error of a value; a family says in ``_loss`` what that error is.
    """

    discrete = False
    draws_tokens = False
    exact = None
    infills = "approximate"

    @final
    @override
    def loss(
        self, network: ValueNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        return self._loss(network, at_least_float32(code), context, generator).mean((1, 2))

    @abstractmethod
    def _loss(self, network: ValueNetwork, chunk: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        """Return the error of each value of a chunk in float32 at least, (batch, horizon, action size)."""

    @override
    def _draft(self, network: ValueNetwork, context: Tensor, request: Request) -> ValueDraft:
        return ValueDraft(request, context, network.horizon, network.action_size)


def overwrite(values: Tensor, known: Tensor) -> Tensor:
    """Return ``values`` with those of ``known`` in their place where they are numbers.

    >>> overwrite(torch.zeros(2), torch.tensor([torch.nan, 3.0]))
    tensor([0., 3.])
    """
    return torch.where(known.isnan(), values, known.to(values))


def answered(values: Tensor) -> Tensor:
    """Return a network's answer (batch, ...) as float32 at least.

    Raises:
        NotFiniteError: names the rows that hold NaN or infinity.
    """
    return check_finite(at_least_float32(values), ANSWER)
