"""The optimizer, what the number of a step decides, and the averaging of weights."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anyorder.policies import AnyOrderPolicy
from anyorder.training.config import OptimizerConfig


@dataclass(frozen=True)
class Schedule:
    """What the number of a step decides: its learning rate, and how far training is.

    Attributes:
        optimizer: settings of the rate, and of the norm that gradients are scaled down to.
        steps: of the whole training.
        seed: of all that is random in it.
    """

    optimizer: OptimizerConfig
    steps: int
    seed: int

    def rate(self, step: int, peak: float) -> float:
        """Return the learning rate of a step: linear warm-up, then a cosine from the peak to a tenth of it.

        >>> schedule = Schedule(OptimizerConfig(), steps=100, seed=0)
        >>> [round(schedule.rate(step, 1.0), 3) for step in (0, 4, 52, 99)]
        [0.2, 1.0, 0.543, 0.1]
        """
        warmup = max(1, round(self.optimizer.warmup_fraction * self.steps))
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step + 1 - warmup) / max(1, self.steps - warmup)
        return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))

    def progress(self, step: int) -> float:
        """Return how far training is before a step, from 0 to 1."""
        return step / self.steps


def make_optimizer(policy: AnyOrderPolicy, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over a policy's two groups of parameters, fused where its device can."""
    return torch.optim.AdamW(
        policy.get_optim_params(),
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=next(policy.parameters()).device.type in ("cpu", "cuda"),
    )


def ramped_average(decay: float) -> Any:
    """Return the averaging rule: ``a <- d a + (1 - d) w`` with d = min(decay, (1 + n) / (10 + n))."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
