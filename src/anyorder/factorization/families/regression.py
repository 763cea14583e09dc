"""Regression: one forward gives one chunk; the baseline that cannot express two modes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization, FactorizationConfig, Sample, ValueNetwork
from anyorder.factorization.categorical import ANSWER
from anyorder.factorization.checks import check_finite, check_sampling, require
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.factorization.families.gaussian_diffusion import check_values, overwrite
from anyorder.factorization.precision import at_least_float32


class Regression(Factorization):
    """The chunk as a function of the observation, under an absolute or a squared error.

    Formula: ``loss = mean |f(0, c) - x|`` (``l1``), whose optimum is the conditional median of each value, or
    ``mean (f(0, c) - x)^2`` (``l2``), the conditional mean. Every other family has to beat it before its factorization
    can be credited (arXiv 2512.01809, whose released code trains on ``l2``).

    Args:
        norm: ``l1`` or ``l2``.
    """

    discrete = False
    reads = "values"
    exact = None
    infills = "approximate"

    def __init__(self, norm: str = "l1") -> None:
        self.norm = norm

    def forwards(self, length: int) -> int:
        """Return one."""
        return 1

    def loss(
        self, network: ValueNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the error per sequence, mean over the chunk's values; nothing is random."""
        chunk = at_least_float32(chunk)
        residual = network(torch.zeros_like(chunk), None, network.prefill(context)) - chunk
        return (residual.abs() if self.norm == "l1" else residual.square()).mean((1, 2))

    def sample(
        self,
        network: ValueNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Return the prediction, with ``known`` values (NaN where free) in their place; nothing else is used."""
        check_sampling(temperature, nucleus)
        check_values(network, context, constraint, known)
        shape = (context.shape[0], network.horizon, network.action_size)
        start = torch.zeros(shape, dtype=at_least_float32(context).dtype, device=context.device)
        x = check_finite(at_least_float32(network(start, None, network.prefill(context))), ANSWER)
        return Sample(x if known is None else overwrite(x, known), None, 1, network.horizon)


@dataclass
class RegressionConfig(FactorizationConfig, choice="regression"):
    """Regression.

    Attributes:
        norm: of the error: ``l1``, whose optimum is the median, or ``l2``, the mean.
    """

    norm: str = "l1"

    def build(self) -> Regression:
        """Make the factorization."""
        require(self.norm in ("l1", "l2"), "factorization.norm", self.norm, "l1 or l2")
        return Regression(self.norm)
