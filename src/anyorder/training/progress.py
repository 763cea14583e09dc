"""The progress bars of a training run, and its clock."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

from anyorder.bars import progress_bars
from anyorder.training.config import TrainConfig
from anyorder.training.evaluate import Validation


class TrainingProgress:
    """Shows the step, the loss, the last validation score (nats per token, or the loss) and the time left."""

    def __init__(self, config: TrainConfig, start: int, enabled: bool) -> None:
        self._bar = progress_bars(
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]} {task.fields[score]}"),
            TimeRemainingColumn(),
            disable=not enabled,
        )
        name = config.factorization.choice
        self._task = self._bar.add_task(name, total=config.steps, completed=start, loss="", score="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, done: int, loss: float) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done, loss=f"loss {loss:.4g}")

    def validated(self, score: Validation) -> None:
        """Show a validation score."""
        if score.nll_nats_per_token is None:
            text = f"val {score.loss:.4g}"
        else:
            sign = "=" if score.exact else "<="
            text = f"val {sign} {score.nll_nats_per_token:.4g}"
        self._bar.update(self._task, score=text)


@contextmanager
def decoding(enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function of (finished, wanted) frames that shows a bar from its first call on."""
    columns = (MofNCompleteColumn(), TimeRemainingColumn())
    with progress_bars(*columns, disable=not enabled, transient=True) as bar:

        def show(finished: int, wanted: int) -> None:
            task = bar.task_ids[0] if bar.task_ids else bar.add_task("decoding frames")
            bar.update(task, completed=finished, total=wanted)

        yield show


def tell(line: str) -> None:
    """Print a line of its own."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


class StepClock:
    """Mean seconds of the steps since they were last asked for; validations and checkpoints are not steps."""

    def __init__(self) -> None:
        self._steps = 0
        self._seconds = 0.0
        self._started = 0.0

    def start(self) -> None:
        """Begin a step."""
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End it."""
        self._seconds += time.perf_counter() - self._started
        self._steps += 1

    def means(self, waited_s: float) -> dict[str, float]:
        """Return ``step_s`` and, of it, ``data_s`` spent waiting for data; start counting afresh."""
        found = {"step_s": self._seconds / self._steps, "data_s": waited_s / self._steps}
        self._steps, self._seconds = 0, 0.0
        return found
