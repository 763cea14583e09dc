"""What is typed either has an effect or is refused: a setting given twice, or one that nothing reads."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from anyorder import cli
from anyorder.errors import ConfigError
from anyorder.policies import AnyOrderConfig
from anyorder.policies.fitting import fit_to_dataset
from tests.commands.test_cli import fails
from tests.plugin.saved import policy, save

TRAIN = ["train", "dataset.root=x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps=2", "steps=3"], "steps: '2' and '3' given, allowed: one value"),
        (["steps=2", "seed=1", "--steps=3"], "steps: '2' and '3' given"),
        (["tokenizer=dct", "tokenizer=bins"], "tokenizer: 'dct' and 'bins' given"),
        (["rollout.env=so101_lift", "env@rollout.env=so101_push"], "rollout.env: 'so101_lift' and 'so101_push' given"),
    ],
)
def test_a_setting_has_one_value(words, said, capsys):
    assert said in fails(capsys, *TRAIN, *words)


def test_the_same_value_twice_is_one():
    assert cli.settings("train", ["dataset.root=x", "steps=2", "steps=2"]).steps == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["factorization=mip", "tokenizer=bins"], "tokenizer: 'bins' given, allowed: none, as mip has no tokens"),
        (["factorization=flow_matching", "tokenizer.scale=9"], "tokenizer.scale: '9' given, allowed: none"),
        (
            ["factorization=analog_bits", "head.distribution=ordinal"],
            "head.distribution: 'ordinal' given, allowed: none, as analog_bits draws no tokens",
        ),
        (
            ["factorization=regression", "decode.rule=mean"],
            "decode.rule: 'mean' given, allowed: none, as regression draws nothing",
        ),
        (["factorization=gaussian_diffusion", "decode.point=median"], "decode.point: 'median' given, allowed: none"),
        (["factorization=flow_matching", "decode.rule=mean", "decode.temperature=0.5"], "decode.temperature: '0.5'"),
        (["decode.samples=8"], "decode.samples: '8' given, allowed: none, but with decode.rule=mean, medoid or"),
        (["decode.rule=mean", "decode.bandwidth=0.3"], "decode.bandwidth: '0.3' given, allowed: none, but with"),
        (["decode.point=median", "decode.window=3"], "decode.window: '3' given, allowed: none, but with decode.point="),
    ],
)
def test_what_has_no_effect_is_refused(words, said, capsys):
    assert said in fails(capsys, *TRAIN, *words)


@pytest.mark.parametrize(
    "words",
    [
        ["factorization=analog_bits", "tokenizer=bins"],
        ["factorization=gaussian_diffusion", "decode.rule=cluster", "decode.samples=8", "decode.bandwidth=0.2"],
        ["decode.rule=medoid", "decode.temperature=0.5"],
        ["decode.point=local_mean", "decode.window=3"],
    ],
)
def test_what_has_an_effect_is_taken(words):
    cli.settings("train", ["dataset.root=x", *words])


def test_a_rollout_refuses_what_its_policy_does_not_read(tmp_path, capsys):
    folder = save(policy("regression"), tmp_path / "policy")
    words = ["rollout", f"policy={folder}", f"output={tmp_path / 'out'}", "env=so101_lift"]
    assert "decode.rule: 'mean' given, allowed: none, as regression" in fails(capsys, *words, "decode.rule=mean")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokenizer": "bins"}, "tokenizer: .* given, allowed: none, as mip has no tokens"),
        ({"tokenizer_options": {"scale": 9.0}}, "tokenizer: .* given, allowed: none, as mip has no tokens"),
        ({"temperature": 0.5}, "temperature: 0.5 given, allowed: 0, as mip draws no tokens"),
        ({"head": {"components": 3}}, "head.components: 3 given, allowed: none"),
    ],
)
def test_a_policy_that_lerobot_trains_refuses_them_too(settings, said):
    if "head" in settings:
        settings = {"head": type(AnyOrderConfig().head)(**settings["head"])}
    config = AnyOrderConfig(factorization="mip", device="cpu", **settings)
    with pytest.raises(ConfigError, match=said):
        fit_to_dataset(config, SimpleNamespace())


SLOW = """
import sys
from anyorder import cli
assert cli.main(sys.argv[1:]) == 2
print(*(name for name in ("lerobot.policies", "transformers", "torchvision", "diffusers") if name in sys.modules))
"""


@pytest.mark.parametrize(
    "words",
    [("train", "dataset.root=nowhere"), ("tokenize", "dataset.root=nowhere"), ("rollout", "policy=nowhere")],
    ids=lambda words: words[0],
)
def test_a_wrong_path_is_refused_before_slow_libraries_are_loaded(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SLOW, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'nowhere' given" in done.stderr
    assert done.stdout.strip() == ""
