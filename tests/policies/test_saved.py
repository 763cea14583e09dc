"""What a saved policy's files may say: each field of its declared type, each file as it was written."""

import json
import re
from pathlib import Path

import draccus
import pytest
import torch
from lerobot.configs import PreTrainedConfig

from anyorder.devices import devices
from anyorder.errors import CheckpointError, ConfigError
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.saved import read_config, readable
from anyorder.settings import to_plain
from anyorder.sums import SUMS
from anyorder.training.checkpoint import load_policy
from tests.plugin.saved import policy, save

CHANGES = [
    ("chunk_size", "6", "chunk_size: '6' given, allowed: an integer"),
    ("chunk_size", True, "chunk_size: True given"),
    ("chunk_size", 6.0, "chunk_size: 6.0 given"),
    ("chunk_size", None, "chunk_size: None given"),
    ("chunk_siz", 6, "did you mean 'chunk_size'"),
    ("input_features", None, "input_features"),
    ("input_features", {"observation.state": {"type": "STATE", "shape": ["3"]}}, r"shape\[0\]: '3' given"),
    ("input_features", {"observation.state": {"type": "STAT", "shape": [3]}}, "type: 'STAT' given"),
    ("input_features", {"observation.state": {"shape": [3]}}, "type"),
    ("input_features", {"observation.state": 3}, "input_features.observation.state: 3 given"),
    ("output_features", {}, "output_features"),
    ("factorization", "masked_difusion", "did you mean 'masked_diffusion'"),
    ("factorization", [], "factorization"),
    ("factorization_options", {"step": 3}, "step"),
    ("factorization_options", "x", "factorization_options: 'x' given"),
    ("tokenizer_spec", "x", "tokenizer_spec: 'x' given"),
    ("network", {"width": 16, "depth": 1, "head": 2}, "network.head: 2 given"),
    ("encoder", {"vision": {"crop": "a"}}, "encoder.vision.crop: 'a' given"),
    ("tasks", [1, None], r"tasks\[1\]: None given"),
    ("action_reference", {"a": 1}, "action_reference"),
    ("normalization_mapping", {"ACTION": "MAX"}, "normalization_mapping.ACTION: 'MAX' given"),
    ("temperature", "0", "temperature: '0' given, allowed: a number"),
    ("fps", 10**400, "fps: 1"),
    ("device", "foo", "device: 'foo' given"),
    ("type", "act", "type: 'act' given, allowed: anyorder"),
    ("type", {"a": 1}, "given, allowed: anyorder"),
]


def test_a_missing_file_is_an_incomplete_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"checkpoint without: .*config\.json' given, allowed: a complete"):
        read_config(tmp_path)


@pytest.fixture(scope="module")
def made():
    return policy()


@pytest.fixture
def folder(made, tmp_path):
    return save(made, tmp_path / "pretrained_model")


def rewrite(folder, **changes):
    """Change ``config.json`` as an older version would have left it: with no digest anywhere."""
    (folder / SUMS).unlink(missing_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder):
    with pytest.raises(CheckpointError) as error:
        load_policy(folder, "cpu")
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "value", "line"), CHANGES, ids=[f"{n}={v!s:.30}" for n, v, _ in CHANGES])
def test_a_setting_that_cannot_be_is_named_in_one_line(folder, name, value, line):
    rewrite(folder, **{name: value})
    found = refused(folder)
    assert re.search(line, found), found
    assert "config.json" in found


@pytest.mark.parametrize("name", ["chunk_size", "factorization", "input_features", "output_features", "type"])
def test_what_has_no_default_must_be_there(folder, name):
    (folder / SUMS).unlink()
    path = folder / "config.json"
    plain = json.loads(path.read_text())
    del plain[name]
    path.write_text(json.dumps(plain))
    assert f"{name}: None given" in refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type": "anyorder", "fps": NaN}', '{"fps": 1e999}', "\0" * 9])
def test_what_is_no_json_object_is_one_line(folder, text):
    (folder / SUMS).unlink()
    (folder / "config.json").write_text(text)
    assert "config.json" in refused(folder)


def test_settings_read_back_as_lerobot_reads_them(folder, made):
    ours, lerobots = read_config(folder), PreTrainedConfig.from_pretrained(folder)
    assert isinstance(lerobots, AnyOrderConfig)
    assert to_plain(ours) == to_plain(lerobots)
    assert ours.input_features == made.config.input_features


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.98])
def test_a_flipped_bit_is_named_before_anything_is_built(folder, name, at, monkeypatch):
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(AnyOrderPolicy, "__init__", lambda *_, **__: pytest.fail("built"))
    for load in (load_policy, AnyOrderPolicy.from_pretrained):
        with pytest.raises(CheckpointError, match=rf"{name}: changed since it was written"):
            load(folder)


def test_a_list_that_is_missing_or_follows_a_change_made_by_lerobot_is_accepted(folder, made):
    config = read_config(folder)
    config.temperature = 0.5
    config.save_pretrained(folder)  # as lerobot's scripts do
    assert load_policy(folder, "cpu").config.temperature == 0.5
    (folder / "train_config.json").write_text("{}")  # not listed
    assert load_policy(folder, "cpu").config.temperature == 0.5
    (folder / SUMS).unlink()
    loaded = load_policy(folder, "cpu")
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in made.state_dict().items())


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "mps", None])
def test_a_policy_from_another_machine_runs_on_what_this_one_has(folder, device):
    rewrite(folder, device=device)
    assert load_policy(folder).config.device in devices()
    assert load_policy(folder, "cpu").config.device == "cpu"


def test_a_device_that_fails_is_no_damaged_checkpoint(folder):
    with pytest.raises(ConfigError, match=r"^device: 'cuda:99' given, allowed: "):
        load_policy(folder, "cuda:99")
    config = read_config(folder)
    config.device = "foo"
    with pytest.raises(ConfigError, match=r"^device: 'foo' given, allowed: "):
        AnyOrderPolicy.from_pretrained(folder, config=config)
    with pytest.raises(ConfigError, match=r"^device: CUDA out of memory. given, allowed: "), readable(folder):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTry less.")


def test_a_policy_that_draws_no_tokens_loads_with_the_temperature_it_was_saved_with(tmp_path):
    folder = save(policy("regression", temperature=0.7, nucleus=0.5), tmp_path / "policy")
    assert load_policy(folder, "cpu").config.temperature == 0.7


def test_the_settings_of_an_earlier_version_are_read_and_written_in_one_form(tmp_path):
    """Each chosen member was a name with options beside it."""
    older = (Path(__file__).parent / "older_config.json").read_text()
    (tmp_path / "config.json").write_text(older)
    plain = json.loads(older)
    ours, lerobots = read_config(tmp_path), PreTrainedConfig.from_pretrained(tmp_path)
    assert isinstance(lerobots, AnyOrderConfig)
    assert to_plain(ours) == to_plain(lerobots)
    for name in ("factorization", "tokenizer"):
        assert getattr(ours, name) == {"type": plain[name], **plain[f"{name}_options"]}
    ours.save_pretrained(tmp_path / "new")
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert written["factorization"] == {"type": "analog_bits", "train_steps": 100, "inference_steps": 20}
    assert not [name for name in written if name.endswith("_options")]
    # What it did not know yet has its default, which means what was meant then.
    fresh = AnyOrderConfig()
    assert all(getattr(ours, name) == getattr(fresh, name) for name in set(written) - set(plain) - {"type"})
    changed = ("factorization", "tokenizer", "factorization_options", "tokenizer_options")
    known = {name: value for name, value in written.items() if name in plain and name not in changed}
    assert known == {name: value for name, value in plain.items() if name not in changed}


@pytest.mark.parametrize(
    "words",
    [
        ["--factorization=masked_diffusion", '--factorization_options={"steps": 8}'],
        ['--factorization={"type": "masked_diffusion", "steps": 8}'],
    ],
)
def test_the_command_line_takes_a_name_with_options_and_the_form_on_disk(words):
    config = draccus.parse(AnyOrderConfig, args=["--device=cpu", *words])
    assert config.factorization == {"type": "masked_diffusion", "steps": 8}
    assert config.factorization_options == {}


@pytest.mark.parametrize("given", ["x", []])
def test_options_that_are_no_settings_are_refused(given):
    with pytest.raises(ConfigError, match=r"^tokenizer_options: .* given, allowed: settings"):
        AnyOrderConfig(device="cpu", tokenizer_options=given)


@pytest.mark.parametrize(("options", "name"), [({"steps": 8}, "steps"), ({"type": "autoregressive"}, "type")])
def test_options_at_odds_with_the_settings_they_go_into_are_refused(options, name):
    given = {"type": "masked_diffusion", "steps": 4}
    with pytest.raises(
        ConfigError, match=rf"^factorization_options\.{name}: .* given, allowed: .*, as in factoriz"
    ) as error:
        AnyOrderConfig(device="cpu", factorization=given, factorization_options=options)
    assert "\n" not in str(error.value)


def test_options_are_merged_with_the_settings_they_go_into():
    given = {"type": "masked_diffusion", "steps": 4}
    config = AnyOrderConfig(
        device="cpu", factorization=given, factorization_options={"steps": 4, "sampler": "confidence"}
    )
    assert config.factorization == {**given, "sampler": "confidence"}
