"""Gaussian diffusion over the continuous chunk, with the noise schedules of diffusers."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.categorical import ANSWER
from anyorder.factorization.checks import check_finite, require
from anyorder.factorization.noise import levels, normals, on_device
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import ValueNetwork
from anyorder.factorization.values import ValueDraft, ValueFactorization, overwrite
from anyorder.settings import setting

PREDICTIONS = ("epsilon", "sample", "v_prediction")
SCHEDULERS = ("ddim", "ddpm", "dpm_solver")

LOWEST_LOG_SIGNAL = -5.1
"""The scheduler ``dpm_solver`` begins at no lower logarithm of signal over noise than this."""


class GaussianDiffusion(ValueFactorization):
    """Denoising diffusion of the whole chunk at once (arXiv 2006.11239, 2303.04137).

    Formula: ``x_t = sqrt(a_t) x + sqrt(1 - a_t) e``; the network predicts ``e``, ``x`` or
    ``v = sqrt(a_t) e - sqrt(1 - a_t) x`` (arXiv 2202.00512) from ``(x_t, t, c)`` under a squared error. Left out: the
    likelihood. Its bound is over a density, which does not compare with that of tokens.

    ``known`` values are put in, noised, before every step.

    Args:
        scheduler: how noise is removed: ``ddim`` (arXiv 2010.02502), ``ddpm`` or ``dpm_solver`` (arXiv 2211.01095).
        train_steps: noise levels in training.
        inference_steps: network calls per chunk.
        prediction: ``epsilon``, ``sample`` or ``v_prediction``.
        clip: predicted values are clipped to the network's ``limit``, that of normalized actions (``clip_sample_range``
            of diffusers); not by ``dpm_solver``.

    References:
        Ho, Jain and Abbeel, 2020: "Denoising Diffusion Probabilistic Models", arXiv 2006.11239.
        Chi et al., 2023: "Diffusion Policy: Visuomotor Policy Learning via Action Diffusion", arXiv 2303.04137.
        Salimans and Ho, 2022: "Progressive Distillation for Fast Sampling of Diffusion Models",
            arXiv 2202.00512.
        Song, Meng and Ermon, 2020: "Denoising Diffusion Implicit Models", arXiv 2010.02502.
        Lu et al., 2022: "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
            arXiv 2211.01095.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.probes import network_for, observations
    >>> family = GaussianDiffusion("ddim", train_steps=100, inference_steps=5, prediction="epsilon")
    >>> sample = family.sample(network_for(family), observations(2), Request(torch.Generator().manual_seed(0)))
    >>> sample.chunk.shape, sample.calls
    (torch.Size([2, 5, 2]), 5)
    """

    def __init__(
        self, scheduler: str, train_steps: int, inference_steps: int, prediction: str, clip: bool = True
    ) -> None:
        self.scheduler = scheduler
        self.train_steps = train_steps
        self.inference_steps = inference_steps
        self.prediction = prediction
        self.clip = clip

    @override
    def calls(self, length: int) -> int:
        """Return the inference steps; diffusers' rounding of the times makes ``dpm_solver`` pass over some.

        >>> GaussianDiffusion("dpm_solver", 256, 128, "epsilon").calls(1)
        127
        """
        if self.scheduler != "dpm_solver":
            return self.inference_steps
        scheduler = self.make_scheduler(self.scheduler)
        scheduler.set_timesteps(self.inference_steps)
        return len(scheduler.timesteps)

    @cached_property
    def noising(self) -> Any:
        """The diffusers scheduler that adds noise; diffusers is imported when first needed, as it takes a second."""
        return self.make_scheduler("ddpm")

    def make_scheduler(self, name: str, limit: float = math.inf) -> Any:
        """Make a diffusers scheduler with this schedule; ``limit`` is the largest absolute value of the data."""
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        settings = {
            "num_train_timesteps": self.train_steps,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": self.prediction,
            # From the last noise level, whatever the number of steps: others begin below pure noise.
            "timestep_spacing": "trailing",
        }
        if name == "dpm_solver":
            # The last levels have next to no signal, where steps in its logarithm blow up.
            return DPMSolverMultistepScheduler(**settings, lambda_min_clipped=LOWEST_LOG_SIGNAL)
        clips = self.clip and math.isfinite(limit)
        kind = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}[name]
        return kind(**settings, clip_sample=clips, clip_sample_range=limit if clips else 1.0)

    @override
    def _loss(self, network: ValueNetwork, chunk: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        noise = normals(chunk.shape, chunk, generator)
        times = levels(self.train_steps, len(chunk), chunk.device, generator)
        noisy = self.noising.add_noise(chunk, noise, times)
        prediction = network(noisy, network.prefill(context), times / self.train_steps)
        target = {"epsilon": noise, "sample": chunk}.get(self.prediction)
        if target is None:
            target = self.noising.get_velocity(chunk, noise, times)
        return (prediction - target).square()

    @override
    def _sample(self, network: ValueNetwork, context: Tensor, draft: ValueDraft) -> None:
        draft.put(self.denoise(network, context, draft.generator, draft.known))

    def denoise(
        self, network: ValueNetwork, context: Tensor, generator: torch.Generator, known: Tensor | None
    ) -> Tensor:
        """Denoise from Gaussian noise; ``known`` values (NaN where free) are put in, noised, before every step."""
        shape = (context.shape[0], network.horizon, network.action_size)
        cache = network.prefill(context)
        x = normals(shape, at_least_float32(context), generator)
        scheduler = self.make_scheduler(self.scheduler, getattr(network, "limit", math.inf))
        # Its times stay on the CPU: on a GPU it would wait for every one of them.
        scheduler.set_timesteps(self.inference_steps)
        here = on_device(generator, x.device)
        finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
        for time in scheduler.timesteps:
            if known is not None:
                given = self.noising.add_noise(known.to(x), normals(shape, x, generator), time.expand(len(x)))
                x = overwrite(x, given)
            times = x.new_full((len(x),), int(time) / self.train_steps)
            prediction = network(x, cache, times).to(x)
            # Clipping would make an extreme of an infinite prediction, which then looks like an action.
            finite &= prediction.isfinite().flatten(1).all(1)
            x = scheduler.step(prediction, time, x, generator=here).prev_sample
        return check_finite(x.masked_fill(~finite.view(-1, 1, 1), math.nan), ANSWER)


@dataclass
class GaussianDiffusionConfig(FactorizationConfig, choice="gaussian_diffusion"):
    """Gaussian diffusion."""

    family = GaussianDiffusion

    scheduler: str = setting(
        "ddim",
        "How noise is removed: ddim (deterministic, few steps), dpm_solver (second order, fewer still) or ddpm (noise "
        "at each step).",
        among=SCHEDULERS,
    )
    train_steps: int = setting(100, "Noise levels in training.", least=1)
    inference_steps: int = setting(10, "Network calls per chunk; they divide train_steps.", least=1)
    prediction: str = setting(
        "epsilon",
        "What the network predicts: epsilon (the noise), sample (the chunk) or v_prediction (a mix of both).",
        among=PREDICTIONS,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.train_steps, self.inference_steps)
        given = f"{self.inference_steps} of {self.train_steps}"
        solves = self.scheduler != "dpm_solver" or self.inference_steps < self.train_steps
        require(solves, "inference_steps", given, "fewer than train_steps, for dpm_solver")


def check_steps(train_steps: int, inference_steps: int) -> None:
    """Raise a ``ConfigError`` unless the network calls, one or more, divide the noise levels evenly."""
    allowed = f"a divisor of train_steps = {train_steps}"
    require(train_steps % inference_steps == 0, "inference_steps", inference_steps, allowed)
