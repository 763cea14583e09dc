"""``metrics.jsonl`` is the truth about a run; wandb mirrors it when asked."""

import json
from pathlib import Path
from typing import Any

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
        staged = self.path.with_suffix(".tmp")
        staged.write_text("".join(json.dumps(line) + "\n" for line in kept))
        staged.replace(self.path)
        self._file = self.path.open("a")
        self._tracker = start_wandb(run, wandb, settings) if wandb.enable else None

    def log(self, step: int, **values: float) -> None:
        """Write one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def close(self) -> None:
        """Finish the file and the tracker."""
        self._file.close()
        if self._tracker is not None:
            self._tracker.finish()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl``; a half-written last line, left by a kill, is skipped."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")
    # Only what precedes a newline was written whole.
    return [json.loads(line) for line in lines[:-1] if line]


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
