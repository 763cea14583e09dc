"""Bars of long work show every number in a terminal of 80 columns."""

import io
import re

import pytest
from rich.console import Console

from anyorder.bars import counting, progress_bars, shown_together
from anyorder.factorization import FactorizationConfig
from anyorder.training import progress
from anyorder.training.config import DatasetConfig, TrainConfig
from anyorder.training.evaluate import Validation


def narrow():
    return Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())


def last_lines(console):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")
    return [line for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("family", sorted(FactorizationConfig.choices))
def test_training_at_80_columns(family, monkeypatch):
    console = narrow()
    monkeypatch.setattr(progress, "progress_bars", lambda *c, **s: progress_bars(*c, **{**s, "console": console}))
    config = TrainConfig(
        dataset=DatasetConfig(root="data"), factorization=FactorizationConfig.named(family), steps=300_000
    )
    exact = config.factorization.build().exact
    score = Validation(123.45678, None, None, None if exact is None else 12.34567, None, exact, 9)
    with progress.TrainingProgress(config, 0, enabled=True) as bar:
        bar.step(123_456, 4321.98765)
        bar.validated(score)
    line = last_lines(console)[-1]
    shown = "val 123.5" if exact is None else f"val {'=' if exact else '<='} 12.35"
    for part in (family, "123456/300000", "loss 4322", shown):
        assert part in line
    assert len(line) <= 80
    assert "…" not in line


@pytest.mark.parametrize("name", ["recording", *sorted(FactorizationConfig.choices)])
def test_recording_and_rolling_out_at_80_columns(name):
    console = narrow()
    with counting(name, console) as bar:
        bar(12_345, 100_000)
    line = last_lines(console)[-1]
    assert name in line
    assert "12345/100000" in line
    assert len(line) <= 80
    assert "…" not in line


def test_long_descriptions_leave_the_numbers_whole():
    from rich.progress import MofNCompleteColumn, TextColumn, TimeElapsedColumn

    console = narrow()
    columns = (MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with progress_bars(*columns, console=console) as bar:
        bar.add_task("roll out gaussian_diffusion", total=3_000, completed=1_234, left="12 min left")
    line = last_lines(console)[-1]
    for part in ("roll out gaussian_diffusion", "1234/3000", "12 min left"):
        assert part in line
    assert len(line) <= 80


@pytest.mark.parametrize("terminal", [True, False])
def test_what_follows_several_bars_begins_a_line_of_its_own(terminal):
    """In a file, too, and after a block that failed."""
    console = Console(width=80, force_terminal=terminal, color_system=None, file=io.StringIO())
    bars = [progress_bars(console=console) for _ in range(2)]
    for bar in bars:
        bar.add_task("roll out", total=3)
    with pytest.raises(KeyError), shown_together(console, *bars):
        raise KeyError
    console.rule("4. comparison")
    assert re.fullmatch("─+ 4. comparison ─+", last_lines(console)[-1])
    assert "\n\n" not in console.file.getvalue()
