import html

import pytest
from scipy.stats import binomtest

from anyorder.reports.runs import read_run
from anyorder.reports.table import COLUMNS, DATA_COLUMNS, VALIDATION_COLUMNS, rows, to_markdown, to_rich
from tests.reports.fake_runs import write_run


@pytest.fixture
def runs(tmp_path):
    return [
        read_run(write_run(tmp_path / "autoregressive", success=(7, 20))),
        read_run(write_run(tmp_path / "masked_diffusion", "masked_diffusion", success=(0, 20), forwards=8)),
        read_run(write_run(tmp_path / "regression", "regression", tokens=False)),
        read_run(write_run(tmp_path / "odd | [red]name[/red] <b>&", "regression", tokens=False)),
    ]


def test_cells(runs):
    exact, bound, none, _ = rows(runs)
    assert exact[:4] == ["autoregressive", "350,592", "= 4.20 ± 0.20", "= 0.525 ± 0.025"]
    assert bound[2:4] == ["≤ 4.20 ± 0.20", "≤ 0.525 ± 0.025"]
    assert none[2:] == ["-"] * 5
    interval = binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert exact[4] == f"7/20 = 35 % [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
    assert exact[5:] == ["21.4", "12"]
    assert bound[6] == "8"


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
