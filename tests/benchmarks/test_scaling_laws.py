"""The document on scaling laws says what its committed runs say."""

import re
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scaling_laws


def test_the_tables_are_of_the_committed_runs():
    document = scaling_laws.DOCUMENT.read_text()
    for study in scaling_laws.STUDIES:
        rows = parquet.read_table(scaling_laws.FOLDER / f"runs{study}.parquet").to_pylist()
        assert scaling_laws.runs_table(rows) in document
        assert scaling_laws.gaps_table(rows, ["ar"]) in document
        assert scaling_laws.orders_table(rows) in document


def test_every_figure_is_there():
    named = re.findall(r"\]\((scaling-laws/[\w-]+\.svg)\)", scaling_laws.DOCUMENT.read_text())
    assert len(named) > 10
    for name in named:
        assert (scaling_laws.DOCUMENT.parent / name).read_text().startswith("<svg")


def test_tables_go_between_their_marks():
    document = "a\n<!-- x -->\nold\n<!-- /x -->\nb"
    assert scaling_laws.filled(document, {"x": "new"}) == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb"
    with pytest.raises(ValueError, match="no place for 'y'"):
        scaling_laws.filled(document, {"y": "new"})


def test_a_gap_is_between_equal_runs_and_the_base_that_validation_chose():
    def run(family, validation, test, width=16):
        scores = {
            f"{kind}_{which}": value
            for kind, value in (("loss", validation), ("test", test))
            for which in ("final", "best")
        }
        return {
            "factorization": family,
            "width": width,
            "unique_tokens": 1000.0,
            "epochs": 4,
            "seed": 0,
            **scores,
        }

    rows = [
        run("ar", 1.0, 1.1),
        run("ar d", 0.9, 1.5),
        run("masked", 2.0, 2.0),
        run("masked", 3.0, 3.0, width=32),
    ]
    assert "| 1,000 | +0.900 |" in scaling_laws.gaps_table(rows, ["ar"])
    assert "| 1,000 | +0.500 |" in scaling_laws.gaps_table(rows, ["ar", "ar d"])
