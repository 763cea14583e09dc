"""What a reader tries first runs: the Python of the README, and the script whose numbers are what its words say."""

import re
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "first_look.py"


def test_the_python_of_the_readme_runs():
    source, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    seen = {}
    exec(compile(source, "README.md", "exec"), seen)
    assert seen["code"].shape == (8, 3)
    assert seen["nats"].shape == (8,)
    assert bool((seen["nats"] < 0).all())
    assert torch.isfinite(seen["nats"]).all()


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
