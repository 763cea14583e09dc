"""The check of a GPU: it runs through on a CPU, and without a GPU it says so."""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_check


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    assert gpu_check.main() == 0
    assert "nothing was checked" in capsys.readouterr().out


@pytest.mark.slow
def test_a_family_has_a_row_and_a_failure_is_one(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--device", "cpu", "--families", "regression", "pottery"])
    assert gpu_check.main() == 1
    printed = capsys.readouterr().out
    assert re.search(r"^\| regression \| [\d,]+ \| [\d.]+ \| [\d.]+ \| nan \| equal \|$", printed, re.MULTILINE)
    assert re.search(r"^\| pottery \| RuntimeError: anyorder train ended with 2 \|$", printed, re.MULTILINE)
    assert "1 of 2 families" in printed
