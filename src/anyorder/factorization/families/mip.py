"""Minimal iterative policy: regression in two steps, the second one from a noised first guess."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.noise import normals
from anyorder.factorization.slots import ValueNetwork
from anyorder.factorization.values import ValueDraft, ValueFactorization, answered
from anyorder.settings import setting


class MinimalIterativePolicy(ValueFactorization):
    """Two deterministic regressions; it matches flow policies where plain regression does not (arXiv 2512.01809).

    Formula: ``loss = |f(0, 0, c) - x|^2 + |f(t x + (1 - t) e, t, c) - x|^2`` at one fixed t; prediction:
    ``x_0 = f(0, 0, c)``, then ``f(t x_0, t, c)``. No family may be called better than this one before it was compared.

    That is the paper's formula. The code its authors released (github.com/simchowitzlabpublic/much-ado-about-noising,
    ``mip/losses.py``) divides the first residual by t and the second by 1 - t before it squares them: at t = 0.9 the
    refinement then weighs 81 times the first guess. ``weighted`` does so, too.

    ``known`` values are put in their place at both steps.

    Args:
        t: share of the data in the second input.
        weighted: divide the residuals by t and by 1 - t, as the released code does.

    References:
        Pan et al., 2025: "Much Ado About Noising: Dispelling the Myths of Generative Robotic Control",
            arXiv 2512.01809.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.probes import network_for, observations
    >>> family = MinimalIterativePolicy(t=0.9)
    >>> sample = family.sample(network_for(family), observations(2), Request(torch.Generator().manual_seed(0)))
    >>> sample.chunk.shape, sample.calls
    (torch.Size([2, 5, 2]), 2)
    """

    deterministic = True

    def __init__(self, t: float, weighted: bool = False) -> None:
        self.t = t
        self.weights = (t**-2, (1 - t) ** -2) if weighted else (1.0, 1.0)

    @override
    def calls(self, length: int) -> int:
        return 2

    @override
    def _loss(self, network: ValueNetwork, chunk: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        cache = network.prefill(context)
        noise = normals(chunk.shape, chunk, generator)
        guess = network(torch.zeros_like(chunk), cache, chunk.new_zeros(len(chunk)))
        refined = network(self.t * chunk + (1 - self.t) * noise, cache, chunk.new_full((len(chunk),), self.t))
        first, second = self.weights
        return first * (guess - chunk).square() + second * (refined - chunk).square()

    @override
    def _sample(self, network: ValueNetwork, context: Tensor, draft: ValueDraft) -> None:
        cache = network.prefill(context)
        for t in (0.0, self.t):
            draft.put(answered(network(t * draft.values, cache, draft.values.new_full((len(context),), t))))


@dataclass
class MinimalIterativePolicyConfig(FactorizationConfig, choice="mip"):
    """Two-step regression."""

    family = MinimalIterativePolicy

    t: float = setting(0.9, "Share of the data in the second step's input; published: 0.9.", above=0, below=1)
    weighted: bool = setting(
        False, "Take the released code's weights, 1 / t^2 and 1 / (1 - t)^2, in place of the paper's 1 and 1."
    )
