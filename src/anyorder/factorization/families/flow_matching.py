"""Flow matching over the continuous chunk: straight lines from noise to data."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.noise import fractions, normals
from anyorder.factorization.slots import ValueNetwork
from anyorder.factorization.values import ValueDraft, ValueFactorization, overwrite
from anyorder.settings import setting


class FlowMatching(ValueFactorization):
    """Conditional flow matching on straight paths (rectified flow, arXiv 2209.03003, 2210.02747; pi0, 2410.24164).

    Formula: ``x_t = (1 - t) x + t e``; the network predicts ``e - x`` from ``(x_t, t, c)`` under a squared error, t
    uniform. Sampling integrates it from t = 1 to 0 in equal Euler steps. Left out: other laws of t, reflow, the
    likelihood.

    ``known`` values are put in, noised, before every step.

    Args:
        inference_steps: network calls per chunk.

    References:
        Liu, Gong and Liu, 2022: "Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified
            Flow", arXiv 2209.03003.
        Lipman et al., 2022: "Flow Matching for Generative Modeling", arXiv 2210.02747.
        Black et al., 2024: "pi0: A Vision-Language-Action Flow Model for General Robot Control",
            arXiv 2410.24164.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.probes import network_for, observations
    >>> family = FlowMatching(inference_steps=4)
    >>> sample = family.sample(network_for(family), observations(2), Request(torch.Generator().manual_seed(0)))
    >>> sample.chunk.shape, sample.calls
    (torch.Size([2, 5, 2]), 4)
    """

    def __init__(self, inference_steps: int) -> None:
        self.inference_steps = inference_steps

    @override
    def calls(self, length: int) -> int:
        return self.inference_steps

    @override
    def _loss(self, network: ValueNetwork, chunk: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        noise = normals(chunk.shape, chunk, generator)
        times = fractions(chunk.shape[:1], chunk.device, generator, chunk.dtype)
        t = times.view(-1, 1, 1)
        velocity = network((1 - t) * chunk + t * noise, network.prefill(context), times)
        return (velocity - (noise - chunk)).square()

    @override
    def _sample(self, network: ValueNetwork, context: Tensor, draft: ValueDraft) -> None:
        steps = self.inference_steps
        x = noise = normals(draft.values.shape, draft.values, draft.generator)
        cache = network.prefill(context)
        for step in range(steps):
            t = 1 - step / steps
            if draft.known is not None:
                x = overwrite(x, (1 - t) * draft.known.to(x) + t * noise)
            x = x - network(x, cache, torch.full((len(x),), t).to(x)) / steps
        draft.put(x)


@dataclass
class FlowMatchingConfig(FactorizationConfig, choice="flow_matching"):
    """Flow matching."""

    family = FlowMatching

    inference_steps: int = setting(10, "Network calls per chunk.", least=1)
