"""The trainer: one step of learning, and the state from which learning goes on."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from anyorder.errors import DivergedError
from anyorder.policies import AnyOrderPolicy
from anyorder.training.optimizer import Schedule, make_optimizer, ramped_average
from anyorder.training.order import seeded

Objective = Callable[..., Tensor]
"""Gives the loss to be minimized, a scalar, for ``(model, batch, generator=..., progress=...)``.

``model`` is the policy as it is wrapped for its devices, and ``progress`` says how far training is, from 0 to 1.
"""


def policy_loss(model: Any, batch: Any, *, generator: torch.Generator, progress: float) -> Tensor:
    """Return the loss that a policy says of a raw batch."""
    return model(batch, generator=generator, progress=progress)[0]


class OneDevice:
    """Where a learner trains: on one device in full precision, with the names of accelerate's handle."""

    process_index = 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in full precision."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients."""
        loss.backward()

    def clip_grad_norm_(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Scale the gradients down to a norm; returns the norm they had."""
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def reduce(self, loss: Tensor, reduction: str = "mean") -> Tensor:
        """Return the loss, as there is one process."""
        return loss


class Learner:
    """A policy that learns; ``anyorder train``, studies and the comparison with peers train by it.

    Everything random is a function of (seed, step): a learner that was saved and loaded ends like an undisturbed one.

    Args:
        policy: whose weights are learnt.
        optimizer: over its parameters; the rates it is given with are the peaks of the schedule.
        average: of the weights, which is what is scored and kept.
        schedule: what the number of a step decides.
        objective: what is minimized.

    Attributes:
        place: where it trains; one device until ``prepare``.

    >>> from anyorder.training.config import OptimizerConfig
    >>> model = nn.Linear(1, 1)
    >>> schedule = Schedule(OptimizerConfig(lr=0.1), steps=100, seed=0)
    >>> def error(model, batch, *, generator, progress):
    ...     return (model(batch) - 3 * batch).square().mean()
    >>> learner = Learner(model, torch.optim.Adam(model.parameters(), lr=0.1), AveragedModel(model), schedule, error)
    >>> losses = [learner.advance(torch.ones(4, 1), step)[0] for step in range(100)]
    >>> losses[-1] < 0.01 * losses[0]
    True
    """

    def __init__(
        self,
        policy: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: AveragedModel,
        schedule: Schedule,
        objective: Objective = policy_loss,
    ) -> None:
        self.policy = policy
        self.optimizer = optimizer
        self.average = average
        self.schedule = schedule
        self.objective = objective
        self.place: Accelerator | OneDevice = OneDevice(next(policy.parameters()).device)
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self._model: Any = policy
        self._stepper: Any = optimizer

    @classmethod
    def of(cls, policy: AnyOrderPolicy, schedule: Schedule, objective: Objective = policy_loss) -> "Learner":
        """Make a learner of a fresh policy, with AdamW and an average as its schedule's settings say."""
        average = AveragedModel(policy, multi_avg_fn=ramped_average(schedule.optimizer.ema_decay))
        return cls(policy, make_optimizer(policy, schedule.optimizer), average, schedule, objective)

    def prepare(self, accelerator: Accelerator) -> None:
        """Train in the precision and on the processes of accelerate's handle from now on."""
        self.place = accelerator
        self._model, self._stepper = accelerator.prepare(self.policy, self.optimizer)

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def averaged(self) -> AnyOrderPolicy:
        """The policy with its averaged weights."""
        return cast(AnyOrderPolicy, self.average.module)

    def advance(self, batch: Any, step: int) -> tuple[float, float]:
        """Take a step, counted from 0, and average the weights.

        Returns the loss over all processes, and the norm of the gradient.

        Raises:
            DivergedError: the loss or the gradient is not finite; no step is then taken.
        """
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.schedule.rate(step, peak)
        found = self.optimize(batch, step)
        self.average.update_parameters(self.policy)
        return found

    def optimize(self, batch: Any, step: int) -> tuple[float, float]:
        """Take the step of ``advance`` at the rates that are set."""
        place, schedule = self.place, self.schedule
        self._model.train()
        # Dropout draws from torch's own generator, the losses from one of theirs; both start afresh every step.
        torch.manual_seed(seeded("cpu", schedule.seed, 2, step, place.process_index).initial_seed())
        generator = seeded(place.device, schedule.seed, 3, step, place.process_index)
        with place.autocast():
            loss = self.objective(self._model, batch, generator=generator, progress=schedule.progress(step))
        place.backward(loss)
        norm = place.clip_grad_norm_(self._model.parameters(), schedule.optimizer.grad_clip_norm)
        check_finite_norm(norm)
        self._stepper.step()
        self._stepper.zero_grad()
        return float(place.reduce(loss.detach(), reduction="mean")), float(norm)

    def state(self) -> dict[str, Tensor]:
        """Return all that learning needs to go on, by name; ``load_state`` takes it back."""
        parts: dict[str, Mapping[str, Tensor]] = {
            "policy": self.policy.state_dict(),
            "average": self.average.state_dict(),
            **{f"optimizer.{i}": held for i, held in self.optimizer.state_dict()["state"].items()},
        }
        return {f"{part}/{name}": value for part, held in parts.items() for name, value in held.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` returned; other tensors are passed over.

        Raises:
            KeyError: a part is missing.
            RuntimeError: a part is of another policy.
            ValueError: the optimizer's is.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        held = {i: parts[f"optimizer.{i}"] for g in groups for i in g["params"] if f"optimizer.{i}" in parts}
        self.policy.load_state_dict(parts["policy"])
        self.average.load_state_dict(parts["average"])
        self.optimizer.load_state_dict({"state": held, "param_groups": groups})


def check_finite_norm(norm: Any) -> None:
    """Check the norm of a gradient before a step is taken along it.

    Raises:
        DivergedError: it is not finite.
    """
    if not math.isfinite(float(norm)):
        raise DivergedError("norm of the gradient", float(norm), "a finite number")
