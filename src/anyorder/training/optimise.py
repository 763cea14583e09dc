"""The optimiser, one step of it, the learning rate over a run, and the averaging of weights."""

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from anyorder.errors import DivergedError
from anyorder.policies import AnyOrderPolicy
from anyorder.training.config import OptimizerConfig, TrainConfig
from anyorder.training.order import seeded


def make_optimizer(policy: AnyOrderPolicy, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over a policy's two groups of parameters, fused where its device can."""
    return torch.optim.AdamW(
        policy.get_optim_params(),
        lr=config.lr,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=next(policy.parameters()).device.type in ("cpu", "cuda"),
    )


def optimise(
    accelerator: Accelerator,
    model: torch.nn.Module,
    optimizer: Any,
    batch: dict[str, Any],
    config: TrainConfig,
    step: int,
) -> tuple[float, float]:
    """Take one step; return the loss over all processes and the gradient's norm.

    Raises:
        DivergedError: the loss or the gradient is not finite.
    """
    model.train()
    # Dropout draws from torch's own generator, the losses from one of theirs; both start afresh every step.
    torch.manual_seed(seeded("cpu", config.seed, 2, step, accelerator.process_index).initial_seed())
    generator = seeded(accelerator.device, config.seed, 3, step, accelerator.process_index)
    with accelerator.autocast():
        loss, _ = model(batch, generator=generator, progress=step / config.steps)
    accelerator.backward(loss)
    norm = accelerator.clip_grad_norm_(model.parameters(), config.optimizer.grad_clip_norm)
    check_finite_norm(norm)
    optimizer.step()
    optimizer.zero_grad()
    return float(accelerator.reduce(loss.detach(), reduction="mean")), float(norm)


def check_finite_norm(norm: Any) -> None:
    """Check the norm of a gradient before a step is taken along it.

    Raises:
        DivergedError: it is not finite.
    """
    if not math.isfinite(float(norm)):
        raise DivergedError("norm of the gradient", float(norm), "a finite number")


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Return the rate of a step: linear warm-up, then a cosine from the peak to a tenth of it.

    >>> [round(learning_rate(s, 100, OptimizerConfig(lr=1.0)), 3) for s in (0, 4, 52, 99)]
    [0.2, 1.0, 0.543, 0.1]
    """
    warmup = max(1, round(config.warmup_fraction * steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1, steps - warmup)
    return config.lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * progress)))


def ramped_average(decay: float) -> Any:
    """Return the averaging rule: ``a <- d a + (1 - d) w`` with d = min(decay, (1 + n) / (10 + n))."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
