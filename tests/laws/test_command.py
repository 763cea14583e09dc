"""``anyorder fit``: its files, and one clear line for whatever is wrong with a table."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as parquet
import pytest

from anyorder import cli
from anyorder.errors import UserError
from anyorder.laws.config import FitConfig, Fixed
from anyorder.laws.fit import fit
from anyorder.laws.law import CONSTANTS
from anyorder.laws.laws import fit_laws
from anyorder.laws.laws_file import read_laws, to_dict
from anyorder.laws.runs import read_runs
from anyorder.reports.laws import sentences
from tests.commands.test_cli import fails
from tests.laws.planted import AR, DIFFUSION, MUENNIGHOFF, STEP_ONE, planted, together
from tests.reports.test_html import Page

HELD = [f"fixed.{name}={value!r}" for name, value in ((k, float(v)) for k, v in STEP_ONE.items())]
COLUMNS = ("params", "tokens", "unique_tokens", "loss")


def columns(runs, families=False):
    table = {name: getattr(runs, name) for name in COLUMNS}
    return {**table, "factorization": runs.factorization.tolist()} if families else table


def write(path, table):
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two families, fitted from a parquet file with a column too many."""
    folder = tmp_path_factory.mktemp("two")
    runs = together(planted(AR, 60, family="autoregressive"), planted(DIFFUSION, 60, family="<b>$x_1$</b>", seed=1))
    table = {**columns(runs, families=True), "seed": list(range(120))}
    file = write(folder / "runs.parquet", table)
    assert cli.main(["fit", f"runs={file}", "bootstrap=100", f"out={folder / 'out'}"]) == 0
    return folder / "out"


def test_laws_json(two):
    written = json.loads((two / "laws.json").read_text())
    assert set(written) >= {"laws", "critical"}
    assert list(written["laws"]) == ["autoregressive", "<b>$x_1$</b>"]
    for law in written["laws"].values():
        assert set(law["constants"]) == set(law["intervals"]) == set(law["identified"]) == set(CONSTANTS[:7])
        for name, (low, high) in law["intervals"].items():
            assert low < law["constants"][name] < high
        assert law["objective"] > 0
        assert 0.99 < law["r2"] < 1
    points = written["critical"]["pairs"][0]["points"]
    assert points[0]["flops"] > 0
    assert written["critical"]["units"]["U"] == "tokens"


def test_laws_can_be_read_back(two):
    laws = read_laws(two / "laws.json")
    written = json.loads((two / "laws.json").read_text())["laws"]
    for family, law in laws.families.items():
        assert law.constants[:7].tolist() == [written[family]["constants"][name] for name in CONSTANTS[:7]]
        assert law.samples.shape == (100, 10)
        low, high = law.ranges["unique_tokens"]
        assert 25e6 <= low < high <= 100e6


def test_the_page_is_whole(two):
    text = (two / "report.html").read_text()
    page = Page(text)
    assert text.count("<svg") == 6
    assert all(target.startswith(("data:", "#")) for target in page.targets)
    assert len(page.ids) == len(set(page.ids))
    assert "<b>$x" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    shown = "\n".join(page.texts)
    for heading in ("Critical compute", "Pareto fronts", "Iso-FLOP curves", "Residuals", "Repeated and fresh data"):
        assert heading in shown


def test_the_published_table_as_it_is(tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["fit", f"runs={MUENNIGHOFF}", *HELD, "bootstrap=100", f"out={out}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "columns not used: name" in said
    assert "R_D is weakly identified" in said
    law = json.loads((out / "laws.json").read_text())["laws"]["all"]
    assert law["objective"] <= 0.0158047
    assert law["r2_no_decay"] == pytest.approx(0.4451684, abs=1e-6)
    assert law["identified"] == {"R_D": False, "R_N": False}
    assert law["intervals"]["alpha"] == [law["constants"]["alpha"]] * 2
    assert "weakly identified" in (out / "report.html").read_text()


def test_everything_held_is_only_scored():
    laws = fit_laws(read_runs(MUENNIGHOFF)[0], FitConfig(fixed=Fixed(**STEP_ONE, R_D=15.387756, R_N=5.309743)))
    law = to_dict(laws, sentences(laws))["laws"]["all"]
    assert law["objective"] == pytest.approx(0.0158259353, abs=5e-11)
    assert law["r2"] == pytest.approx(0.7722046, abs=5e-8)
    assert set(law["fixed"]) == set(law["constants"])
    assert law["identified"] == {}


@pytest.mark.parametrize("law", ["chinchilla", "auto"])
def test_other_laws(law):
    name = "chinchilla" if law == "auto" else law
    laws = fit_laws(planted(AR, 60), FitConfig(law=name), resamples=100, choose=law == "auto")
    written = to_dict(laws, sentences(laws))
    assert json.dumps(written, allow_nan=False)
    assert written["law"] == {"auto": "data_constrained", "chinchilla": "chinchilla"}[law]
    assert len(written["held_out"]) == (4 if law == "auto" else 0)
    assert (written["laws"]["all"]["constants"]["R_D"] is None) == (law == "chinchilla")


def changed(**values):
    table = columns(planted(AR, 30))
    for name, value in values.items():
        table[name] = value(table[name]) if callable(value) else value
    return {name: column for name, column in table.items() if column is not None}


def at(row, value):
    def change(column):
        column = np.array(column)
        column[row] = value
        return column

    return change


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (changed(loss=at(4, 0.0)), "loss in row 5: 0.0 given, allowed: a finite number above 0"),
        (changed(loss=at(4, -1.0)), "loss in row 5"),
        (changed(loss=at(4, np.nan)), "loss in row 5"),
        (changed(params=at(0, np.inf)), "params in row 1"),
        (changed(params=at(2, 0.0)), "params in row 3: 0.0 given"),
        (changed(unique_tokens=1e13), "unique_tokens: '1e+13 in every run' given, allowed: at least two values"),
        (changed(params=1e8), "params: '1e+08 in every run' given"),
        (changed(loss=None, los=np.ones(30)), "did you mean 'loss'?; loss=NAME takes another column for the loss"),
        (
            changed(loss=None, loss_final=np.ones(30), loss_final_se=np.ones(30), loss_best=np.ones(30)),
            "loss: 'loss' given, allowed: a column of the table: loss=loss_final or loss=loss_best",
        ),
        (changed(tokens=None), "tokens"),
        (changed(factorisation=["a"] * 30), "did you mean 'factorization'"),
        (changed(loss=1.5), "losses: '1.5 in every run' given, allowed: at least two values"),
        (changed(loss=["high"] * 30), "column loss: 'string' given, allowed: numbers in every row"),
        (
            changed(factorization=["a"] * 25 + ["b"] * 5),
            "runs of b: 5 given, allowed: at least 10, to fit A, B, E, alpha, beta, R_D, R_N; families=[...] names",
        ),
        (changed(factorization=["a"] * 29 + [""]), "an empty cell"),
        ({name: column[:6] for name, column in changed().items()}, "runs: 6 given, allowed: at least 10"),
        ({name: column[:0] for name, column in changed().items()}, "without rows"),
    ],
)
def test_bad_tables(table, said, tmp_path):
    """Read and fitted without the command line, whose every call takes a second."""
    table = {name: np.full(30, c) if isinstance(c, float) else c for name, c in table.items()}
    file = write(tmp_path / "runs.csv", table)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        fit(read_runs(file)[0])
    assert "\n" not in str(caught.value)


def test_a_bad_table_is_one_line_and_leaves_nothing(tmp_path, capsys):
    file = write(tmp_path / "runs.csv", changed(loss=at(4, 0.0)))
    assert "loss in row 5" in fails(capsys, "fit", f"runs={file}", f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs=/no/such.csv"], "/no/such.csv' given, allowed: an existing file whose name ends in .csv or .parquet; "),
        (["runs=docs/scaling-laws/rusn.parquet"], "did you mean 'runs.parquet'?"),
        (["runs=docs/scaling-laws"], "runs=docs/scaling-laws/runs-cr5.parquet or another of 4 there"),
        (["runs=src"], "if this is a study, `anyorder study collect out=src` writes src/runs.parquet"),
        (["runs=docs/scaling-laws/runs.parquet"], "allowed: a column of the table: loss=loss_final or loss=loss_best"),
        (["runs=docs/scaling-laws/runs.parquet", "loss=test_bst"], "test_best"),
        (["x.csv"], "argument: 'x.csv' given, allowed: key=value, as runs=x.csv"),
        (["runs=README.md"], ".csv or .parquet"),
        ([], "runs: None given, allowed: a value, as runs=... (CSV or parquet: params, tokens, "),
        (["runs=x.csv", "law=chincilla"], "did you mean 'chinchilla'"),
        (["runs=x.csv", "fixed.alfa=1"], "did you mean 'fixed.alpha'"),
        (["runs=x.csv", "fixed.alpha=-1"], "fixed.alpha: -1.0 given"),
        (["runs=x.csv", "fixed.alpha=low"], "a number"),
        (["runs=x.csv", "law=chinchilla", "fixed.R_D=3"], "constants of law=chinchilla"),
        (["runs=x.csv", "tied=true", "fixed.alpha=0.3", "fixed.beta=0.4"], "as tied=true"),
        (["runs=x.csv", "loss=loss_final", "protocol=best"], "final, as loss=loss_final tells"),
        (["runs=x.csv", "bootstrap=5"], "an integer >= 100"),
    ],
)
def test_bad_words(words, said, tmp_path, capsys):
    assert said in fails(capsys, "fit", *words, f"out={tmp_path / 'out'}")


def test_runs_given_twice_are_counted():
    runs = planted(AR, 30)
    assert runs.repeated == 0
    assert runs.where(np.array([0, 1, 2, 1, 2, 1])).repeated == 3


def test_two_steps_need_runs_of_one_epoch():
    runs = planted(AR, 60)
    with pytest.raises(UserError, match="runs of one epoch, as two_step=true: 0 given, allowed: at least 9"):
        fit(runs.where(~runs.single_epoch), FitConfig(two_step=True))


def test_a_column_twice(tmp_path):
    file = tmp_path / "runs.csv"
    file.write_text("params,tokens,unique_tokens,loss,loss\n1,1,1,1,1\n")
    with pytest.raises(UserError, match="loss once"):
        read_runs(file)


def test_a_file_that_is_no_table(tmp_path):
    file = tmp_path / "runs.parquet"
    file.write_bytes(b"not a table")
    with pytest.raises(UserError, match="a table that can be read"):
        read_runs(file)


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert "a new folder" in fails(capsys, "fit", f"runs={MUENNIGHOFF}", f"out={tmp_path / 'out'}")


def test_laws_that_are_none(tmp_path):
    (tmp_path / "laws.json").write_text("{}")
    with pytest.raises(UserError, match="anyorder fit"):
        read_laws(tmp_path / "laws.json")
    with pytest.raises(UserError, match=r"^laws: .*nope' given, allowed: a laws.json that `anyorder fit` wrote"):
        read_laws(tmp_path / "nope")
