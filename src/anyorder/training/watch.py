"""A training that diverges ends in one line that says how to go on; what was saved before stays."""

from pathlib import Path
from typing import Self

from torch import nn

from anyorder.errors import CheckpointError, DivergedError
from anyorder.training.config import TrainConfig
from anyorder.training.run_folder import last_checkpoint, step_of
from anyorder.weights import check_state


class Watch:
    """Around a training's steps: says of a loss or a weight that is not finite at which step, and what to do.

    Attributes:
        step: the present one, counted from 1.
    """

    step = 0

    def __init__(self, run: Path, config: TrainConfig) -> None:
        self.run, self.config = run, config

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DivergedError):
            last = last_checkpoint(self.run)
            there = "begins again, as there is no checkpoint yet"
            if last is not None:
                there = f"goes on from the checkpoint of step {step_of(last)}"
            optimizer = self.config.optimizer
            raise DivergedError(
                f"training at step {self.step}: {error}; lower optimizer.lr ({optimizer.lr:g}) or "
                f"optimizer.grad_clip_norm ({optimizer.grad_clip_norm:g}): with it, resume=true {there}"
            ) from error

    def due(self) -> bool:
        """Whether weights are scored, rolled out or saved after this step."""
        config = self.config
        freqs = (config.eval_freq, config.save_freq, config.rollout.freq)
        return self.step == config.steps or any(freq and self.step % freq == 0 for freq in freqs)

    def check(self, *models: nn.Module) -> None:
        """Check the weights before they are scored, rolled out or saved.

        Raises:
            DivergedError: one is not finite; it is named.
        """
        for model in models if self.due() else ():
            check_trained(model)


def check_trained(model: nn.Module) -> None:
    """Check the weights of a training.

    Raises:
        DivergedError: one is not finite; it is named.
    """
    try:
        check_state(model)
    except CheckpointError as error:
        raise DivergedError(str(error)) from error
