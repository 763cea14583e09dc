"""The notebook-like script among the documents runs, and its numbers are what its words say."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "first_look.py"


def test_the_first_look_shows_what_it_says(capsys):
    seen = runpy.run_path(str(SCRIPT))
    nats, entropy = seen["nats"], seen["entropy"]
    assert nats["autoregressive"] == pytest.approx(entropy, abs=1e-9)
    assert nats["masked_diffusion"] == pytest.approx(entropy, abs=0.02)
    assert nats["independent"] > entropy + 0.3
    assert seen["distance"]["autoregressive"] < 0.05 < 0.2 < seen["distance"]["independent"]
    assert seen["jumps"][4] > 10
    assert seen["jumps"][32] == pytest.approx(seen["chain"].jumps * 31 / 7, rel=0.1)
    assert 0 < seen["learnt"]["autoregressive"] - seen["best"] < 0.1
    assert seen["learnt"]["masked_diffusion"] > seen["best"]
    assert capsys.readouterr().out.count("\n") == 12
