"""Diffusion of token embeddings: noise on learnt vectors, cross-entropy on tokens."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import EmbeddingNetwork, Factorization, FactorizationConfig, Sample
from anyorder.factorization.categorical import probabilities, token_scores
from anyorder.factorization.checks import check_known
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.factorization.families.analog_bits import nearest_legal
from anyorder.factorization.families.gaussian_diffusion import GaussianDiffusion, check_steps, overwrite
from anyorder.factorization.noise import levels, normals
from anyorder.factorization.noise_time import with_time
from anyorder.factorization.precision import at_least_float32


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
    """

    discrete = True
    reads = "embeddings"
    exact = None
    infills = "approximate"

    def __init__(self, train_steps: int, inference_steps: int) -> None:
        self.diffusion = GaussianDiffusion("ddim", train_steps, inference_steps, "sample", clip=False)

    def forwards(self, length: int) -> int:
        """Return the diffusion's steps."""
        return self.diffusion.inference_steps

    def loss(
        self, network: EmbeddingNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the cross-entropy of the clean tokens per sequence, summed over them, nats."""
        steps = self.diffusion.train_steps
        times = levels(steps, len(chunk), chunk.device, generator)
        vectors = scaled(network.embeddings())[chunk]
        noise = normals(vectors.shape, vectors, generator)
        noisy = self.diffusion.noising.add_noise(vectors, noise, times)
        logits = self.ask(network, noisy, context, times / steps)
        return -token_scores(logits, chunk).sum(-1)

    def ask(self, network: EmbeddingNetwork, noisy: Tensor, context: Tensor, times: Tensor) -> Tensor:
        """Return logits of the clean tokens given noisy vectors (batch, length, width)."""
        cache = network.prefill(with_time(context, times))
        return network.from_vectors(noisy * noisy.shape[-1] ** -0.5, cache)

    def sample(
        self,
        network: EmbeddingNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Denoise vectors and take the likeliest legal tokens, left to right, at the last step."""
        batch, length = context.shape[0], network.length
        table = scaled(network.embeddings())
        frozen = check_known(known, context, length, len(table))
        held = table[frozen.clamp_min(0)].masked_fill((frozen < 0).unsqueeze(-1), float("nan"))
        shape = (batch, length, table.shape[1])
        scheduler = self.diffusion.make_scheduler("ddim")
        scheduler.set_timesteps(self.diffusion.inference_steps)
        x = normals(shape, table, generator)
        for time in scheduler.timesteps:
            if known is not None:
                noise = normals(shape, table, generator)
                x = overwrite(x, self.diffusion.noising.add_noise(held, noise, time.expand(batch)))
            now = torch.full((batch,), int(time) / self.diffusion.train_steps, device=context.device)
            logits = self.ask(network, x, context, now)
            mean = probabilities(logits, temperature, nucleus).to(table) @ table
            x = scheduler.step(mean, time, x).prev_sample
        tokens = nearest_legal(logits, frozen, constraint)
        calls = self.diffusion.inference_steps
        return Sample(tokens, None, calls, calls * length)


def scaled(table: Tensor) -> Tensor:
    """Return embeddings (tokens, width) at norm sqrt(width), so that each number has about unit variance.

    Float32 at least, so that what noise is added to is, too.
    """
    unit: Tensor = torch.nn.functional.normalize(at_least_float32(table), dim=-1)
    return unit * math.sqrt(table.shape[-1])


@dataclass
class EmbeddingDiffusionConfig(FactorizationConfig, choice="embedding_diffusion"):
    """Diffusion of token embeddings.

    Attributes:
        train_steps: noise levels in training.
        inference_steps: network calls per chunk.
    """

    train_steps: int = 100
    inference_steps: int = 20

    def build(self) -> EmbeddingDiffusion:
        """Make the factorization."""
        check_steps(self.train_steps, self.inference_steps)
        return EmbeddingDiffusion(self.train_steps, self.inference_steps)
