"""Settings of a checkpoint: what its weights cannot follow is refused, the rest is taken and has its effect."""

import dataclasses
import json

import draccus
import pytest
import torch
from lerobot.configs import PreTrainedConfig

from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.plugin.excepthook import user_error
from anyorder.policies import AnyOrderPolicy
from anyorder.policies.after_training import EXECUTION, FINE_TUNING, GIVEN_BY_LEROBOT, HUB, SAMPLING
from anyorder.settings import dotted
from tests.plugin.saved import policy, save

FEATURE = '{"observation.effort": {"type": "STATE", "shape": [3]}}'
FIXED = {
    "chunk_size": ["--chunk_size=10", "--n_action_steps=10"],
    "n_obs_steps": ["--n_obs_steps=2"],
    "relative_actions": ["--relative_actions=true"],
    "action_reference": ["--action_reference=[0, 1]"],
    "fps": ["--fps=60"],
    "tasks": ['--tasks=["Lift."]'],
    "text_size": ["--text_size=8"],
    "tokenizer.vocab_size": ['--tokenizer_options={"vocab_size": 300}'],
    "factorization.loss": ['--factorization_options={"loss": "bernoulli"}'],
    "network.width": ["--network.width=32"],
    "network.depth": ["--network.depth=2"],
    "network.heads": ["--network.heads=4"],
    "encoder.tokens": ["--encoder.tokens=3"],
    "encoder.vision.crop": ["--encoder.vision.crop=0.9"],
    "encoder.vision.dropout": ["--encoder.vision.dropout=0.5"],
    "context_dropout": ["--context_dropout=0.1", "--guidance=2"],
    "normalization_mapping.STATE": ['--normalization_mapping={"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}'],
    "input_features": [f"--input_features={FEATURE}"],
}
FREE = {
    "n_action_steps": ["--n_action_steps=2"],
    "temperature": ["--temperature=0.5"],
    "nucleus": ["--nucleus=0.9"],
    "decode.samples": ["--decode.samples=4", "--decode.rule=cluster"],
    "decode.window": ["--decode.window=3", "--decode.point=local_mean"],
    "blend": ["--blend=2"],
    "observation_noise": ["--observation_noise=0.1"],
    "repeats": ["--repeats=2"],
    "optimizer_lr": ["--optimizer_lr=0.0001"],
    "network.dropout": ["--network.dropout=0.2"],
    "license": ["--license=mit"],
    "factorization": ['--factorization_options={"sampler": "confidence", "steps": 3}'],
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(policy(), tmp_path_factory.mktemp("saved") / "policy")


def load(folder, words=()):
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu", *words])
    return AnyOrderPolicy.from_pretrained(folder, config=config)


@pytest.mark.parametrize("name", FIXED)
def test_what_the_weights_cannot_follow_is_refused(name, saved):
    with pytest.raises(ConfigError, match=rf"^{name}.* given, allowed: .*as the policy was trained with"):
        load(saved, FIXED[name])


def test_another_family_is_refused(saved):
    with pytest.raises(ConfigError, match=r"^factorization\.type: 'autoregressive' .* as the policy was trained with"):
        load(saved, ["--factorization=autoregressive"])
    with pytest.raises(draccus.ParsingError) as error:
        load(saved, ['--factorization={"type": "autoregressive"}'])
    assert isinstance(user_error(error.value), ConfigError)
    assert "factorization.sampler: " in str(user_error(error.value))
    plain = {"factorization": "gaussian_diffusion", "factorization_options": {}}
    config = dataclasses.replace(PreTrainedConfig.from_pretrained(saved), **plain)
    with pytest.raises(ConfigError, match=r"^factorization.* as the policy was trained with"):
        AnyOrderPolicy.from_pretrained(saved, config=config)


@pytest.mark.parametrize("name", FREE)
def test_what_they_can_follow_is_taken(name, saved):
    loaded = load(saved, FREE[name])
    given = dotted(draccus.encode(loaded.config)) | {"factorization": loaded.config.factorization}
    value = FREE[name][0].split("=", 1)[1]
    value = value if name == "license" else json.loads(value)
    # A policy that was fitted names all options of its family.
    assert given[name] | value == given[name] if isinstance(value, dict) else given[name] == value


@pytest.mark.parametrize("family", sorted(FactorizationConfig.choices))
def test_every_family_comes_back_as_it_was_saved(family, tmp_path):
    tokens = FactorizationConfig.named(family).build()
    options = {"tokenizer": "dct", "tokenizer_options": {}} if tokens.needs_levels else {}
    made = policy(family, **options)
    folder = save(made, tmp_path / "policy")
    loaded = load(folder)
    for name, value in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with pytest.raises(ConfigError, match="chunk_size"):
        load(folder, ["--chunk_size=12"])


def test_what_an_older_checkpoint_does_not_say_has_its_default(saved, tmp_path):
    folder = save(policy(), tmp_path / "older")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["guidance"], config["relative_actions"], config["network"]["dropout"]
    path.write_text(json.dumps(config))
    (folder / "SHA256SUMS").unlink()
    load(folder)


def test_the_lists_name_settings_that_exist():
    known = set(dotted(draccus.encode(policy().config, PreTrainedConfig)))
    assert {*EXECUTION, *FINE_TUNING, *HUB} <= known
    for family, names in SAMPLING.items():
        for member in FactorizationConfig.choices.values():
            if issubclass(member, family):
                assert set(names) <= set(vars(member())), member
    assert all(any(k == name or k.startswith(f"{name}.") for k in known) for name in GIVEN_BY_LEROBOT)
