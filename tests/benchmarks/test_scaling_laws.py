"""The documents on scaling laws say what their committed runs say."""

import re
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import scaling_laws

TEXT = "".join(document.read_text() for document in scaling_laws.DOCUMENTS)


def test_the_tables_are_of_the_committed_runs():
    for study in scaling_laws.STUDIES:
        rows = parquet.read_table(scaling_laws.FOLDER / f"runs{study}.parquet").to_pylist()
        assert scaling_laws.runs_table(rows) in TEXT
        assert scaling_laws.gaps_table(rows, ["ar"]) in TEXT
        assert scaling_laws.orders_table(rows) in TEXT


def test_every_figure_is_there():
    named = re.findall(r"\]\((scaling-laws/[\w-]+\.svg)\)", TEXT)
    assert len(named) > 10
    for name in named:
        assert (scaling_laws.DOCS / name).read_text().startswith("<svg")


def test_tables_go_between_their_marks():
    documents = ["a", "a\n<!-- x -->\nold\n<!-- /x -->\nb"]
    assert scaling_laws.filled(documents, {"x": "new"}) == ["a", "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb"]
    with pytest.raises(ValueError, match="no document has a place for 'y'"):
        scaling_laws.filled(documents, {"y": "new"})


def test_every_table_of_the_main_study_has_one_place():
    names = re.findall(r"<!-- ([\w-]+) -->", TEXT)
    assert len(names) == len(set(names)) > 20


def test_a_gap_is_between_equal_runs_and_the_base_that_validation_chose():
    def run(family, validation, test, width=16):
        scores = {
            f"{kind}_{which}": value
            for kind, value in (("loss", validation), ("test", test))
            for which in ("final", "best")
        }
        return {"factorization": family, "width": width, "unique_tokens": 1000.0, "epochs": 4, "seed": 0, **scores}

    rows = [run("ar", 1.0, 1.1), run("ar d", 0.9, 1.5), run("masked", 2.0, 2.0), run("masked", 3.0, 3.0, width=32)]
    assert "| 1,000 | +0.900 |" in scaling_laws.gaps_table(rows, ["ar"])
    assert "| 1,000 | +0.500 |" in scaling_laws.gaps_table(rows, ["ar", "ar d"])
