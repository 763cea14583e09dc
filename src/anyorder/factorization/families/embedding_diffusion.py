"""Diffusion of token embeddings: noise on learnt vectors, cross-entropy on tokens."""

import math
from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization, FactorizationConfig
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.draft import Draft
from anyorder.factorization.families.gaussian_diffusion import GaussianDiffusion, check_steps
from anyorder.factorization.noise import levels, normals
from anyorder.factorization.noise_time import with_time
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import EmbeddingNetwork
from anyorder.factorization.values import overwrite
from anyorder.settings import setting


class EmbeddingDiffusion(Factorization):
    """Gaussian diffusion in the space of the network's own token embeddings (CDCD, arXiv 2211.15089; 2205.14217).

    Formula: with E(x) the embedding of x scaled to norm sqrt(width), ``z_t = sqrt(a_t) E(x) + sqrt(1 - a_t) e``; the
    network gives ``p(x | z_t, t, c)`` per token and is trained by ``-log p(x | z_t, t, c)``, t uniform. Sampling
    denoises with the mean embedding ``sum_x p(x | z_t) E(x)``, at temperature 0 with the likeliest token's. The
    cross-entropy keeps embeddings apart, so they need no further loss. Left out: time warping, self-conditioning, the
    likelihood.

    Args:
        train_steps: noise levels in training.
        inference_steps: network calls per chunk.

    References:
        Dieleman et al., 2022: "Continuous Diffusion for Categorical Data", arXiv 2211.15089.
        Li et al., 2022: "Diffusion-LM Improves Controllable Text Generation", arXiv 2205.14217.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.probes import network_for, observations
    >>> family = EmbeddingDiffusion(train_steps=100, inference_steps=5)
    >>> sample = family.sample(network_for(family), observations(2), Request(torch.Generator().manual_seed(0)))
    >>> sample.chunk.shape, sample.calls
    (torch.Size([2, 5]), 5)
    """

    discrete = True
    exact = None
    infills = "approximate"

    def __init__(self, train_steps: int, inference_steps: int) -> None:
        self.diffusion = GaussianDiffusion("ddim", train_steps, inference_steps, "sample", clip=False)

    @override
    def calls(self, length: int) -> int:
        return self.diffusion.inference_steps

    @override
    def loss(
        self,
        network: EmbeddingNetwork,
        code: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        progress: float = 1.0,
    ) -> Tensor:
        steps = self.diffusion.train_steps
        times = levels(steps, len(code), code.device, generator)
        vectors = scaled(network.embeddings())[code]
        noise = normals(vectors.shape, vectors, generator)
        noisy = self.diffusion.noising.add_noise(vectors, noise, times)
        return -self.ask(network, noisy, context, times / steps).log_prob(code).sum(-1)

    def ask(self, network: EmbeddingNetwork, noisy: Tensor, context: Tensor, times: Tensor) -> Conditionals:
        """Return what the network says of the clean tokens given noisy vectors (batch, length, width)."""
        cache = network.prefill(with_time(context, times))
        return network.from_vectors(noisy * noisy.shape[-1] ** -0.5, cache)

    @override
    def _sample(self, network: EmbeddingNetwork, context: Tensor, draft: Draft) -> None:
        batch = len(context)
        table = scaled(network.embeddings())
        held = None
        if draft.request.known is not None:
            held = table[draft.code.clamp_min(0)].masked_fill((draft.code < 0).unsqueeze(-1), float("nan"))
        shape = (batch, network.length, table.shape[1])
        scheduler = self.diffusion.make_scheduler("ddim")
        scheduler.set_timesteps(self.diffusion.inference_steps)
        x = normals(shape, table, draft.generator)
        for time in scheduler.timesteps:
            if held is not None:
                noise = normals(shape, table, draft.generator)
                x = overwrite(x, self.diffusion.noising.add_noise(held, noise, time.expand(batch)))
            now = torch.full((batch,), int(time) / self.diffusion.train_steps, device=context.device)
            answer = self.ask(network, x, context, now)
            mean = draft.law(answer).to(table) @ table
            x = scheduler.step(mean, time, x).prev_sample
        draft.fill_likeliest(answer.logits)


def scaled(table: Tensor) -> Tensor:
    """Return embeddings (tokens, width) at norm sqrt(width), so that each number has about unit variance.

    Float32 at least, so that what noise is added to is, too.
    """
    unit: Tensor = torch.nn.functional.normalize(at_least_float32(table), dim=-1)
    return unit * math.sqrt(table.shape[-1])


@dataclass
class EmbeddingDiffusionConfig(FactorizationConfig, choice="embedding_diffusion"):
    """Diffusion of token embeddings."""

    family = EmbeddingDiffusion

    train_steps: int = setting(100, "Noise levels in training.", least=1)
    inference_steps: int = setting(20, "Network calls per chunk; they divide train_steps.", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.train_steps, self.inference_steps)
