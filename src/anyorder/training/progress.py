"""The progress bar of a training run."""

from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from anyorder.training.config import TrainConfig
from anyorder.training.evaluate import Validation


class TrainingProgress:
    """Shows the step, the loss, the last validation score and the time left."""

    def __init__(self, config: TrainConfig, start: int, enabled: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]} {task.fields[score]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            disable=not enabled,
        )
        name = config.factorization.choice
        self._task = self._bar.add_task(name, total=config.steps, completed=start, loss="", score="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def step(self, done: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, loss=f"loss {loss:.3f}")

    def validated(self, score: Validation) -> None:
        """Show a validation score."""
        if score.nll_nats_per_token is None:
            text = f"val {score.loss:.4f}"
        else:
            sign = "=" if score.exact else "<="
            text = f"val nll {sign} {score.nll_nats_per_token:.3f} nats/token"
        self._bar.update(self._task, score=text)
