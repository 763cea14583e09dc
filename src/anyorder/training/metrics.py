"""``metrics.jsonl`` is the truth about a run; wandb mirrors it when asked."""

import json
from pathlib import Path
from typing import Any

from anyorder.errors import UserError, bad_value
from anyorder.files import Words, append_line, write_whole
from anyorder.training.config import WandbConfig


class Metrics:
    """Appends one JSON object a line, each with its ``step`` and flushed at once.

    Args:
        run: folder of the run.
        resume_step: lines beyond this step, left by a killed run, are dropped, as they will be written again.
        wandb: tracking settings.
        settings: the run's settings, for the tracker.
    """

    def __init__(self, run: Path, resume_step: int, wandb: WandbConfig, settings: dict[str, Any]) -> None:
        self.path = run / "metrics.jsonl"
        kept = [line for line in read_metrics(run) if line["step"] <= resume_step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._tracker = start_wandb(run, wandb, settings) if wandb.enable else None

    def log(self, step: int, **values: float) -> None:
        """Write one line."""
        append_line(self.path, json.dumps({"step": step, **values}))
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def close(self) -> None:
        """Finish the tracker."""
        if self._tracker is not None:
            self._tracker.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; a half-written last line, left by a kill, is skipped.

    Raises:
        UserError: a line is not what ``Metrics`` writes: an object of numbers, with the step.
    """
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    # Only what precedes a newline was written whole.
    lines = path.read_bytes().split(b"\n")[:-1]
    return [read_line(line, f"{path} line {number}") for number, line in enumerate(lines, 1) if line]


def read_line(text: bytes, where: str) -> dict[str, Any]:
    """Read a line of metrics.

    Raises:
        UserError: it is damaged.
    """
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    good = isinstance(line, dict) and type(line.get("step")) is int and line["step"] >= 0
    if not good or not all(type(value) in (int, float) for value in line.values()):
        given = Words(repr(text[:60].decode(errors="replace")))
        raise UserError(bad_value(where, given, 'numbers, as {"step": 10, "train_loss": 0.5}'))
    return dict(line)


def start_wandb(run: Path, config: WandbConfig, settings: dict[str, Any]) -> Any:
    """Start (or continue) a wandb run whose id is kept in the run's folder."""
    import wandb

    id_file = run / "wandb_id.txt"
    if not id_file.is_file():
        id_file.write_text(wandb.util.generate_id())
    return wandb.init(
        project=config.project,
        mode=config.mode,  # type: ignore[arg-type]
        dir=run,
        id=id_file.read_text(),
        resume="allow",
        config=settings,
        name=run.name,
    )
