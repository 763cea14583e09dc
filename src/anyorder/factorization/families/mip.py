"""Minimal iterative policy: regression in two steps, the second one from a noised first guess."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization, FactorizationConfig, Sample, ValueNetwork
from anyorder.factorization.categorical import ANSWER
from anyorder.factorization.checks import check_finite, check_sampling, require
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.factorization.families.gaussian_diffusion import check_values, overwrite
from anyorder.factorization.noise import normals
from anyorder.factorization.precision import at_least_float32


class MinimalIterativePolicy(Factorization):
    """Two deterministic regressions; it matches flow policies where plain regression does not (arXiv 2512.01809).

    Formula: ``loss = |f(0, 0, c) - x|^2 + |f(t x + (1 - t) e, t, c) - x|^2`` at one fixed t; prediction:
    ``x_0 = f(0, 0, c)``, then ``f(t x_0, t, c)``. No family may be called better than this one before it was compared.

    That is the paper's formula. The code its authors released (github.com/simchowitzlabpublic/much-ado-about-noising,
    ``mip/losses.py``) divides the first residual by t and the second by 1 - t before it squares them: at t = 0.9 the
    refinement then weighs 81 times the first guess. ``weighted`` does so, too.

    Args:
        t: share of the data in the second input.
        weighted: divide the residuals by t and by 1 - t, as the released code does.
    """

    discrete = False
    reads = "values"
    exact = None
    infills = "approximate"

    def __init__(self, t: float, weighted: bool = False) -> None:
        self.t = t
        self.weights = (t**-2, (1 - t) ** -2) if weighted else (1.0, 1.0)

    def forwards(self, length: int) -> int:
        """Return two."""
        return 2

    def loss(
        self, network: ValueNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the weighted sum of both squared errors per sequence, mean over the chunk's values."""
        cache = network.prefill(context)
        chunk = at_least_float32(chunk)
        noise = normals(chunk.shape, chunk, generator)
        guess = network(torch.zeros_like(chunk), self.time(chunk, 0.0), cache)
        refined = network(self.t * chunk + (1 - self.t) * noise, self.time(chunk, self.t), cache)
        first, second = self.weights
        return (first * (guess - chunk).square() + second * (refined - chunk).square()).mean((1, 2))

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
        """Return the refined prediction, with ``known`` values (NaN where free) in their place at both steps."""
        check_sampling(temperature, nucleus)
        check_values(network, context, constraint, known)
        shape = (context.shape[0], network.horizon, network.action_size)
        cache = network.prefill(context)
        x = torch.zeros(shape, dtype=at_least_float32(context).dtype, device=context.device)
        for t in (0.0, self.t):
            x = check_finite(at_least_float32(network(t * x, self.time(x, t), cache)), ANSWER)
            x = x if known is None else overwrite(x, known)
        return Sample(x, None, 2, 2 * network.horizon)

    def time(self, like: Tensor, t: float) -> Tensor:
        """Return t for each row of ``like``, (batch,)."""
        return torch.full((len(like),), t, dtype=like.dtype, device=like.device)


@dataclass
class MinimalIterativePolicyConfig(FactorizationConfig, choice="mip"):
    """Two-step regression.

    Attributes:
        t: share of the data in the second step's input; published: 0.9.
        weighted: the released code's weights, 1 / t^2 and 1 / (1 - t)^2, in place of the paper's 1 and 1.
    """

    t: float = 0.9
    weighted: bool = False

    def build(self) -> MinimalIterativePolicy:
        """Make the factorization."""
        require(0 < self.t < 1, "factorization.t", self.t, "between 0 and 1")
        return MinimalIterativePolicy(self.t, self.weighted)
