"""One contract for the policy, over every factorization."""

import json

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

import lerobot_policy_anyorder  # noqa: F401  (registers the policy type)
from anyorder.datasets.read.statistics import Statistics
from anyorder.errors import CheckpointError, ConfigError, DatasetError
from anyorder.factorization import FactorizationConfig
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit
from anyorder.training.checkpoint import load_policy
from anyorder.training.config import DatasetConfig, TrainConfig

HORIZON, ACTIONS = 8, 3
FAMILIES = sorted(FactorizationConfig.choices)


def chunks(count=200):
    steps = torch.linspace(0, 2 * torch.pi, HORIZON)
    phase = torch.rand(count, 1, ACTIONS, generator=torch.Generator().manual_seed(0)) * 6
    return 40 * torch.sin(steps.view(1, -1, 1) + phase) + torch.tensor([0.0, 10.0, 200.0])


def observation(rows=4):
    generator = torch.Generator().manual_seed(1)
    return {
        "observation.state": torch.randn(rows, ACTIONS, generator=generator),
        "observation.environment_state": torch.randn(rows, 2, generator=generator),
    }


def make(family="autoregressive", **settings):
    levels = FactorizationConfig.named(family).build().needs_levels
    tokenizer = {"tokenizer": "dct"} if levels else {"tokenizer": "fast", "tokenizer_options": {"vocab_size": 200}}
    config = AnyOrderConfig(
        input_features={
            "observation.state": PolicyFeature(FeatureType.STATE, (ACTIONS,)),
            "observation.environment_state": PolicyFeature(FeatureType.ENV, (2,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTIONS,))},
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=4,
        factorization=family,
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        push_to_hub=False,
        **tokenizer | settings,
    )
    statistics = {name: Statistics.of(x.numpy()).as_lerobot() for name, x in observation(50).items()}
    torch.manual_seed(0)
    return AnyOrderPolicy(config, fit(config, statistics, {**observation(200), "action": chunks()}, fps=30.0))


every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_untrained_policies_give_finite_actions_within_the_data(family):
    chunk = make(family).predict_action_chunk(observation(16))
    low, high = chunks().flatten(0, 1).aminmax(dim=0)
    assert chunk.shape == (16, HORIZON, ACTIONS)
    assert torch.isfinite(chunk).all()
    assert (chunk >= low - 1e-3).all()
    assert (chunk <= high + 1e-3).all()


@every_family
def test_temperature_changes_nothing_where_no_tokens_are_drawn(family):
    policy = make(family)
    drawn = []
    for policy.config.temperature in (0.0, 5.0):
        policy.manual_seed(0)
        drawn.append(policy.predict_action_chunk(observation(16)))
    assert torch.equal(*drawn) != policy.factorization.draws_tokens


@every_family
def test_saved_and_loaded_it_acts_bit_for_bit_alike(family, tmp_path):
    policy = make(family)
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    for p in (policy, loaded):
        p.manual_seed(5)
    first, second = (p.predict_action_chunk(observation()) for p in (policy, loaded))
    assert torch.equal(first, second)
    assert loaded.config.fps == 30.0


@every_family
def test_lerobot_loads_it_by_its_type(family, tmp_path):
    policy = make(family)
    policy.save_pretrained(tmp_path)
    loaded = get_policy_class("anyorder").from_pretrained(tmp_path)
    for p in (policy, loaded):
        p.manual_seed(5)
    assert torch.equal(policy.predict_action_chunk(observation()), loaded.predict_action_chunk(observation()))
    pre, post = make_pre_post_processors(policy.config)
    single = {name: value[0] for name, value in observation().items()}
    action = post(loaded.select_action(pre(single)))
    assert action.shape == (1, ACTIONS)


@every_family
def test_select_action_plays_the_chunk_and_asks_again_when_it_is_used_up(family):
    policy, twin = make(family), make(family)
    chunk = twin.predict_action_chunk(observation())
    for step in range(4):
        assert torch.equal(policy.select_action(observation()), chunk[:, step])
    calls = policy.calls
    policy.select_action(observation())
    assert policy.calls > calls
    policy.reset()
    assert len(policy._queue) == 0


@every_family
def test_loss_falls_with_training(family):
    policy = make(family)
    batch = {**observation(64), "action": chunks(64)}
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-2)
    losses = []
    for step in range(60):
        policy.train()
        loss, info = policy(batch, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(info["loss"])
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@every_family
def test_every_parameter_is_optimized_once(family):
    policy = make(family)
    listed = [p for group in policy.get_optim_params() for p in group["params"]]
    assert sorted(map(id, listed)) == sorted(map(id, policy.parameters()))


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion"])
def test_log_prob_has_the_declared_kind(family):
    policy = make(family)
    estimate = policy.log_prob(
        {**observation(8), "action": chunks(8)}, generator=torch.Generator().manual_seed(0), samples=4
    )
    assert (estimate.value < 0).all()
    assert bool((estimate.standard_error == 0).all()) is bool(policy.factorization.exact)


def test_continuous_families_say_that_they_have_no_likelihood():
    with pytest.raises(ConfigError, match="likelihood"):
        make("regression").log_prob({**observation(), "action": chunks(4)}, generator=torch.Generator())


def test_several_draws_of_the_loss_are_made_in_training_only():
    policy, batch = make("masked_diffusion", repeats=3), {**observation(4), "action": chunks(4)}
    context, code = policy.context(batch), policy.codec.encode(batch)
    rows = torch.arange(4).repeat_interleave(3)

    def loss(code, context):
        generator = torch.Generator().manual_seed(2)
        return policy.factorization.loss(policy.network, code, context, generator=generator)

    for training, wanted in ((True, loss(code[rows], context[rows]).view(4, 3).mean(1)), (False, loss(code, context))):
        policy.train(training)
        found = policy(batch, reduction="none", generator=torch.Generator().manual_seed(2))[0]
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["autoregressive", "independent", "regression"])
def test_several_draws_of_a_loss_that_draws_nothing_are_refused(family):
    with pytest.raises(ConfigError, match=r"^repeats: 2 given, allowed: 1, as this factorization's loss draws neither"):
        make(family, repeats=2)
    with pytest.raises(ConfigError, match=r"^repeats: 2 given"):
        TrainConfig(dataset=DatasetConfig(root="x"), factorization=FactorizationConfig.named(family), repeats=2)


def test_observation_noise_acts_in_training_only():
    policy = make("autoregressive", observation_noise=0.5)
    batch = {**observation(4), "action": chunks(4)}
    policy.train()
    assert policy(batch)[1]["loss"] != policy(batch)[1]["loss"]
    policy.eval()
    assert policy(batch)[1]["loss"] == policy(batch)[1]["loss"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"chunk_size": 0}, "chunk_size"),
        ({"n_action_steps": 9, "chunk_size": 8}, "n_action_steps"),
        ({"temperature": -1.0}, "temperature"),
        ({"factorization": "autoregresive"}, "did you mean 'autoregressive'"),
        ({"factorization": "masked_diffusion", "factorization_options": {"step": 3}}, "did you mean 'steps'"),
        ({"tokenizer": "fats"}, "did you mean 'fast'"),
    ],
)
def test_bad_settings_are_one_clear_line(settings, field):
    with pytest.raises(ConfigError, match=field) as error:
        AnyOrderConfig(device="cpu", **settings)
    assert "\n" not in str(error.value)


@every_family
def test_relative_actions_follow_the_state(family):
    policy = make(family, action_reference=[0, -1, 2])
    moved = {**observation(), "observation.state": observation()["observation.state"] + 5}
    batch = {**observation(50), "action": chunks(50)}
    shifted = {**batch, "action": batch["action"] + 5 * torch.tensor([1.0, 0.0, 1.0])}
    shifted["observation.state"] = batch["observation.state"] + 5
    torch.testing.assert_close(policy.codec.normalize(batch), policy.codec.normalize(shifted), atol=1e-5, rtol=0)
    # The same chunk drawn in another state lands elsewhere by the difference of the states.
    policy.context = lambda *_: torch.zeros(4, 2, 16)
    policy.manual_seed(1)
    here = policy.predict_action_chunk(observation())
    policy.manual_seed(1)
    there = policy.predict_action_chunk(moved)
    torch.testing.assert_close(there - here, torch.tensor([5.0, 0.0, 5.0]).expand(4, HORIZON, 3), atol=1e-4, rtol=0)


def test_actions_of_another_size_and_missing_observations_are_refused():
    policy = make()
    with pytest.raises(DatasetError, match="action chunk"):
        policy({**observation(), "action": torch.zeros(4, HORIZON, ACTIONS + 1)})
    with pytest.raises(ConfigError, match=r"observation\.state"):
        policy.predict_action_chunk({"observation.environment_state": torch.zeros(1, 2)})


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_checkpoints_with_a_missing_file_are_refused(name, tmp_path):
    make().save_pretrained(tmp_path / "pretrained_model")
    (tmp_path / "pretrained_model" / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_policy(tmp_path, "cpu")


def test_truncated_weights_are_refused(tmp_path):
    make().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"undamaged|as written"):
        load_policy(tmp_path, "cpu")


def test_a_family_that_anneals_has_to_know_how_far_training_is(tmp_path):
    policy = make(factorization_options={"orders": "annealed"})
    batch = {**observation(), "action": chunks(4)}
    policy.train()
    with pytest.raises(ConfigError, match=r"progress of training.*None given.*forward\(batch, progress="):
        policy(batch)
    with pytest.raises(ConfigError, match=r"progress: 1.5 given, allowed: a number from 0 to 1"):
        policy(batch, progress=1.5)

    def losses(**settings):
        return policy(batch, reduction="none", generator=torch.Generator().manual_seed(0), **settings)[0]

    exact = -policy.log_prob(batch, generator=torch.Generator().manual_seed(0)).value
    torch.testing.assert_close(losses(progress=1.0), exact)
    assert not torch.allclose(losses(progress=0.0), exact)
    policy.eval()
    torch.testing.assert_close(losses(), exact)
    # LeRobot's trainer tells a policy its dataset, and never how far it is.
    with pytest.raises(ConfigError, match="anyorder train"):
        AnyOrderPolicy(policy.config, dataset_meta=object())


@every_family
def test_how_far_training_is_matters_to_no_other_family(family):
    policy = make(family).train()
    batch = {**observation(), "action": chunks(4)}
    first, second = (
        policy(batch, generator=torch.Generator().manual_seed(0), **settings)[0] for settings in ({}, {"progress": 0.1})
    )
    assert torch.equal(first, second)


def test_what_an_older_policy_left_unsaid_means_what_it_meant_then(tmp_path):
    policy = make("masked_diffusion")
    assert policy.config.factorization["steps"] == 0
    assert policy.factorization.sampler.calls(40) == 40
    policy.save_pretrained(tmp_path)
    assert load_policy(tmp_path, "cpu").config.factorization == policy.config.factorization
    (tmp_path / "SHA256SUMS").unlink()
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    for options, steps in (({}, 32), ({"sampler": "confidence"}, 32), ({"steps": 8}, 8), ({"steps": 0}, 40)):
        older = {"factorization": "masked_diffusion", "factorization_options": options}
        file.write_text(json.dumps({**saved, **older}))
        assert load_policy(tmp_path, "cpu").factorization.sampler.calls(40) == steps
    # One that is not fitted yet has the defaults of today.
    assert AnyOrderConfig(factorization="masked_diffusion").factorization_config().steps == 0
