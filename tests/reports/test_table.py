import html
import io
import json

import pytest
from rich.console import Console
from scipy.stats import binomtest

from anyorder.reports.runs import read_run
from anyorder.reports.table import COLUMNS, DATA_COLUMNS, VALIDATION_COLUMNS, rows, to_markdown, to_rich
from tests.reports.fake_runs import write_run


@pytest.fixture
def runs(tmp_path):
    return [
        read_run(write_run(tmp_path / "autoregressive", success=(7, 20))),
        read_run(write_run(tmp_path / "masked_diffusion", "masked_diffusion", success=(0, 20), forwards=8)),
        read_run(write_run(tmp_path / "regression", "regression", tokens=False, chunk_error=(0.0712, 0.0046))),
        read_run(write_run(tmp_path / "odd | [red]name[/red] <b>&", "regression", tokens=False)),
    ]


def test_cells(runs):
    exact, bound, none, bare = rows(runs)
    assert exact[:4] == ["autoregressive", "350,592", "= 4.20 ± 0.20", "= 0.525 ± 0.025"]
    assert bound[2:4] == ["≤ 4.20 ± 0.20", "≤ 0.525 ± 0.025"]
    assert none[2:] == ["-", "-", "0.0712 ± 0.0046", "-", "-", "-"]
    assert bare[2:] == ["-"] * 6
    assert [column.title for column in COLUMNS][4:6] == ["chunk error", "success [95 % interval]"]
    assert exact[4] == "-"
    interval = binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert exact[5] == f"7/20 = 35 % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
    assert exact[6:] == ["21.4", "12"]
    assert bound[7] == "8"


def test_a_chunk_error_without_a_standard_error_is_shown_too(tmp_path):
    """One held-out episode has none."""
    run = write_run(tmp_path / "mip", "mip", tokens=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 100, "chunk_error": 0.07123}\n')
    assert rows([read_run(run)])[0][4] == "0.071"


def test_names_keep_a_readable_width_at_80_columns(tmp_path):
    """Also where every other column is full, and latencies say at which batch size they were taken."""
    run = write_run(
        tmp_path / "gaussian_diffusion", "gaussian_diffusion", success=(100, 100), chunk_error=(0.0712, 0.0046)
    )
    summary = json.loads((run / "rollout" / "summary.json").read_text()) | {"batch_size": 1}
    (run / "rollout" / "summary.json").write_text(json.dumps(summary))
    found = read_run(run)
    assert rows([found])[0][6] == "21.4 (batch 1)"
    console = Console(width=80, file=io.StringIO())
    console.print(to_rich([found]))
    lines = console.file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert next(line for line in lines if "350,592" in line).startswith("gaussian")


def test_final_and_best_stand_side_by_side(runs):
    exact, _, none, _ = rows(runs, VALIDATION_COLUMNS)
    assert exact[1:4] == ["100", "= 50.4 ± 2.4", "= 0.525 ± 0.025"]
    assert exact[5:7] == ["60", "= 0.500 ± 0.025"]
    assert (none[2], none[4], none[5], none[7]) == ("-", "0.0504", "60", "0.048")


@pytest.mark.parametrize("columns", [COLUMNS, VALIDATION_COLUMNS, DATA_COLUMNS])
def test_terminal_and_markdown_have_the_same_cells(runs, columns):
    expected = rows(runs, columns)
    table = to_rich(runs, columns)
    cells = zip(*(list(column.cells) for column in table.columns), strict=True)
    assert [[" ".join(cell.plain.split()) for cell in row] for row in cells] == expected

    lines = to_markdown(runs, columns).splitlines()[2:]
    for line, row in zip(lines, expected, strict=True):
        parts = line.replace("\\|", "\0").strip("|").split("|")
        assert [html.unescape(part.replace("\0", "|").strip()) for part in parts] == row
