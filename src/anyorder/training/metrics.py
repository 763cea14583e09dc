"""``metrics.jsonl`` is the truth about a run; wandb mirrors it when asked."""

from pathlib import Path
from typing import Any

from anyorder.errors import CheckpointError, bad_value
from anyorder.files import append_line, json_line, read_lines, write_whole
from anyorder.training.config import WandbConfig

METRICS = "metrics.jsonl"


class Metrics:
    """Appends one JSON object a line, each with its ``step`` and flushed at once.

    Lines beyond ``resume_step``, left by a killed run, are dropped, as they will be written again.
    """

    def __init__(self, run: Path, resume_step: int, wandb: WandbConfig, settings: dict[str, Any]) -> None:
        self.path = run / METRICS
        kept = [line for line in read_metrics(run) if line["step"] <= resume_step]
        write_whole(self.path, "".join(map(json_line, kept)))
        self._tracker = start_wandb(run, wandb, settings) if wandb.enable else None

    def log(self, step: int, **values: float) -> None:
        """Write one line."""
        append_line(self.path, {"step": step, **values})
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def close(self) -> None:
        """Finish the tracker."""
        if self._tracker is not None:
            self._tracker.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; a half-written last line, left by a kill, is skipped.

    Raises:
        CheckpointError: a line is not what was written: a step and numbers.
    """
    path = run / METRICS
    if not path.is_file():
        return []
    lines = read_lines(path, CheckpointError)
    seen: set[tuple[int | str, ...]] = set()
    for number, line in enumerate(lines, 1):
        wrong = [name for name, value in line.items() if type(value) not in (int, float)]
        if wrong or type(line.get("step")) is not int or line["step"] < 0:
            name = (wrong or ["step"])[0]
            allowed = "an integer >= 0" if name == "step" else "a number"
            raise CheckpointError(f"{path}, line {number}: {bad_value(name, line.get(name), allowed)}")
        kind = (line["step"], *sorted(line))
        if kind in seen:
            twice = bad_value("step", line["step"], "each number of a step once")
            raise CheckpointError(f"{path}, line {number}: {twice}")
        seen.add(kind)
    return lines


def start_wandb(run: Path, config: WandbConfig, settings: dict[str, Any]) -> Any:
    """Start (or continue) a wandb run whose id is kept in the run's folder."""
    import wandb

    id_file = run / "wandb_id.txt"
    if not id_file.is_file():
        write_whole(id_file, wandb.util.generate_id())
    return wandb.init(
        project=config.project,
        mode=config.mode,  # type: ignore[arg-type]
        dir=run,
        id=id_file.read_text(),
        resume="allow",
        config=settings,
        name=run.name,
    )
