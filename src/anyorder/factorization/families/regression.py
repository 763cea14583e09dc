"""Regression: one forward gives one chunk; the baseline that cannot express two modes."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.slots import ValueNetwork
from anyorder.factorization.values import ValueDraft, ValueFactorization, answered
from anyorder.settings import setting


class Regression(ValueFactorization):
    """The chunk as a function of the observation, under an absolute or a squared error.

    Formula: ``loss = mean |f(0, c) - x|`` (``l1``), whose optimum is the conditional median of each value, or
    ``mean (f(0, c) - x)^2`` (``l2``), the conditional mean. Every other family has to beat it before its factorization
    can be credited (arXiv 2512.01809, whose released code trains on ``l2``).

    ``known`` values are put in their place.

    Args:
        norm: ``l1`` or ``l2``.

    References:
        Pan et al., 2025: "Much Ado About Noising: Dispelling the Myths of Generative Robotic Control",
            arXiv 2512.01809.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.probes import network_for, observations
    >>> family = Regression("l1")
    >>> sample = family.sample(network_for(family), observations(2), Request(torch.Generator().manual_seed(0)))
    >>> sample.chunk.shape, sample.calls
    (torch.Size([2, 5, 2]), 1)
    """

    deterministic = True

    def __init__(self, norm: str = "l1") -> None:
        self.norm = norm

    @override
    def calls(self, length: int) -> int:
        return 1

    @override
    def _loss(self, network: ValueNetwork, chunk: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        residual = network(torch.zeros_like(chunk), network.prefill(context)) - chunk
        return residual.abs() if self.norm == "l1" else residual.square()

    @override
    def _sample(self, network: ValueNetwork, context: Tensor, draft: ValueDraft) -> None:
        draft.put(answered(network(draft.values, network.prefill(context))))


@dataclass
class RegressionConfig(FactorizationConfig, choice="regression"):
    """Regression."""

    family = Regression

    norm: str = setting(
        "l1", "Norm of the error: l1, whose optimum is the median, or l2, the mean.", among=("l1", "l2")
    )
