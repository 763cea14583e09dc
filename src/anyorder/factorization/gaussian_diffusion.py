"""Gaussian diffusion over the continuous chunk, with the noise schedules of diffusers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anyorder.factorization.base import Factorization, FactorizationConfig, Sample, ValueNetwork, require
from anyorder.factorization.constraint import TokenAutomaton


class GaussianDiffusion(Factorization):
    """Denoising diffusion of the whole chunk at once (arXiv 2006.11239, 2303.04137).

    Formula: ``x_t = sqrt(a_t) x + sqrt(1 - a_t) e``; the network predicts ``e`` (or ``x``) from ``(x_t, t, c)`` under
    a squared error. Left out: the likelihood. Its bound is over a density, which does not compare with that of tokens.

    Args:
        train_scheduler: diffusers scheduler that adds noise (its ``alphas_cumprod`` is the schedule).
        scheduler: diffusers scheduler that removes it.
        inference_steps: network calls per chunk.
    """

    discrete = False
    exact = None

    def __init__(self, train_scheduler: Any, scheduler: Any, inference_steps: int) -> None:
        self.train_scheduler = train_scheduler
        self.scheduler = scheduler
        self.inference_steps = inference_steps

    def loss(
        self, network: ValueNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return the squared error of the prediction per sequence, mean over the chunk's values."""
        steps = self.train_scheduler.config.num_train_timesteps
        noise = torch.randn(chunk.shape, dtype=chunk.dtype, generator=generator, device=chunk.device)
        times = torch.randint(steps, chunk.shape[:1], generator=generator, device=chunk.device)
        noisy = self.train_scheduler.add_noise(chunk, noise, times)
        prediction = network(noisy, times / steps, network.prefill(context))
        target = noise if self.train_scheduler.config.prediction_type == "epsilon" else chunk
        return (prediction - target).square().mean((1, 2))

    def sample(
        self,
        network: ValueNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Denoise from Gaussian noise; ``temperature`` is not used."""
        require(constraint is None and known is None, "known", "tokens", "None, for continuous families")
        batch = context.shape[0]
        shape = (batch, network.horizon, network.action_size)
        x = torch.randn(shape, dtype=context.dtype, generator=generator, device=context.device)
        cache = network.prefill(context)
        self.scheduler.set_timesteps(self.inference_steps, device=context.device)
        steps = self.train_scheduler.config.num_train_timesteps
        for time in self.scheduler.timesteps:
            prediction = network(x, (time / steps).expand(batch), cache)
            x = self.scheduler.step(prediction, time, x, generator=generator).prev_sample
        return Sample(x, None, self.inference_steps, self.inference_steps * network.horizon)


@dataclass
class GaussianDiffusionConfig(FactorizationConfig, choice="gaussian_diffusion"):
    """Gaussian diffusion.

    Attributes:
        scheduler: ``ddim`` (deterministic, few steps) or ``ddpm`` (as many steps as wanted, noise at each).
        train_steps: noise levels in training.
        inference_steps: network calls per chunk.
        prediction: ``epsilon`` (the noise) or ``sample`` (the chunk).
    """

    scheduler: str = "ddim"
    train_steps: int = 100
    inference_steps: int = 10
    prediction: str = "epsilon"

    def build(self) -> GaussianDiffusion:
        """Make the factorization; diffusers is imported here, as it takes a second."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        kinds = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}
        predictions = ("epsilon", "sample")
        require(self.scheduler in kinds, "factorization.scheduler", self.scheduler, ", ".join(kinds))
        require(
            self.prediction in predictions,
            "factorization.prediction",
            self.prediction,
            ", ".join(predictions),
        )
        require(self.train_steps >= 1, "factorization.train_steps", self.train_steps, "an integer >= 1")
        require(
            1 <= self.inference_steps <= self.train_steps,
            "factorization.inference_steps",
            self.inference_steps,
            f"1 to train_steps = {self.train_steps}",
        )
        settings = {
            "num_train_timesteps": self.train_steps,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": self.prediction,
            "clip_sample": True,
        }
        return GaussianDiffusion(
            DDPMScheduler(**settings), kinds[self.scheduler](**settings), self.inference_steps
        )
