"""How a policy decides on a chunk, and how it passes from one chunk to the next."""

import dataclasses
import json
import math

import pytest
import torch

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization import DecodeConfig, Sample
from anyorder.factorization.families.regression import Regression
from anyorder.training.checkpoint import load_policy

from .test_policy import ACTIONS, HORIZON, every_family, make, observation

RULES = ("mean", "medoid", "cluster")


class TwoModes(Regression):
    """Draws -0.8 or 0.8, alike, plus what the first number of the context says and a little noise."""

    deterministic = False

    def sample(self, network, context, request):
        size = (len(context), 1, 1)
        place = torch.where(torch.rand(size, generator=request.generator) < 0.5, -0.8, 0.8)
        noise = 0.02 * torch.randn(len(context), HORIZON, ACTIONS, generator=request.generator)
        return Sample(place + 0.1 * context[:, :1, :1].tanh() + noise, None, 1, HORIZON)


def two_modes(rule, samples=15):
    policy = make("regression", decode=DecodeConfig(rule, samples))
    policy.factorization = TwoModes()
    return policy


def normalized(policy, batch):
    return policy.normalizer("action")(policy.predict_action_chunk(batch))


@every_family
@pytest.mark.parametrize("rule", RULES)
def test_every_family_decides_over_samples(family, rule):
    policy = make(family, decode=DecodeConfig(rule, samples=4))
    chunk = policy.predict_action_chunk(observation(3))
    assert chunk.shape == (3, HORIZON, ACTIONS)
    assert torch.isfinite(chunk).all()
    policy.manual_seed(0)
    assert torch.equal(policy.predict_action_chunk(observation(3)), chunk)


@pytest.mark.parametrize("family", ["autoregressive", "flow_matching", "regression"])
def test_an_ensemble_decides_over_samples_of_its_members(family):
    chunk = make(family, ensemble=2, decode=DecodeConfig("mean", samples=4)).predict_action_chunk(observation(3))
    assert chunk.shape == (3, HORIZON, ACTIONS)
    assert torch.isfinite(chunk).all()


@every_family
def test_one_sample_is_a_sample(family):
    draws = family not in ("regression", "mip", "gaussian_diffusion", "flow_matching", "analog_bits")
    one = make(family, **({"temperature": 1.0} if draws else {}))
    for rule in RULES:
        decided = make(family, decode=DecodeConfig(rule, samples=1))
        one.manual_seed(3)
        decided.manual_seed(3)
        assert torch.equal(one.predict_action_chunk(observation()), decided.predict_action_chunk(observation()))


@pytest.mark.parametrize("family", ["regression", "mip"])
def test_families_that_draw_nothing_are_left_as_they_are(family):
    plain, decided = make(family), make(family, decode=DecodeConfig("cluster", 16))
    assert torch.equal(plain.predict_action_chunk(observation()), decided.predict_action_chunk(observation()))


def test_of_two_modes_the_mean_is_neither():
    seen = observation(30)
    offset = 0.1 * make("regression").context(seen)[:, 0, 0].tanh().view(-1, 1, 1)
    assert ((normalized(two_modes("mean"), seen) - offset).abs() < 0.75).all()
    for rule in ("medoid", "cluster"):
        # Each row stays with its own observation.
        chosen = normalized(two_modes(rule), seen) - offset
        assert torch.allclose(chosen.abs(), torch.full_like(chosen, 0.8), atol=0.1)


def test_the_mean_of_many_samples_is_that_of_their_row():
    seen = observation(4)
    offset = 0.1 * make("regression").context(seen)[:, 0, 0].tanh()
    found = normalized(two_modes("mean", samples=4096), seen).mean((1, 2))
    assert torch.allclose(found, offset, atol=0.05)


def test_a_sample_that_is_not_finite_becomes_no_action():
    policy = two_modes("mean", samples=3)
    drawn = policy.factorization.sample

    def spoilt(*given):
        chunk = drawn(*given).chunk
        chunk[7, 2, 1] = math.nan
        return dataclasses.replace(drawn(*given), chunk=chunk)

    policy.factorization.sample = spoilt
    with pytest.raises(NotFiniteError, match="row 2") as error:
        policy.predict_action_chunk(observation(4))
    assert error.value.rows == (2,)


@pytest.mark.parametrize("point", ["local_mean", "median"])
def test_points_of_tokens_are_numbers_of_an_ordinal_head(point):
    settings = {"tokenizer": "dct", "tokenizer_options": {}}
    chunk = make("autoregressive", decode=DecodeConfig(point=point), **settings).predict_action_chunk(observation())
    assert torch.isfinite(chunk).all()
    with pytest.raises(ConfigError, match="point: "):
        make("autoregressive", decode=DecodeConfig(point=point)).predict_action_chunk(observation())


@pytest.mark.parametrize(("temperature", "rule"), [(0.5, "sample"), (0.0, "mean")])
def test_points_are_refused_where_tokens_are_drawn(temperature, rule):
    with pytest.raises(ConfigError, match=r"decode\.point: 'median' given, allowed: mode, but with temperature=0"):
        make("autoregressive", temperature=temperature, decode=DecodeConfig(rule=rule, point="median"))


def test_a_policy_saved_without_the_setting_behaves_as_before(tmp_path):
    policy = make("autoregressive")
    policy.save_pretrained(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    assert saved.pop("decode")["rule"] == "sample"
    assert saved.pop("blend") == 0
    file.write_text(json.dumps(saved))
    loaded = load_policy(tmp_path, "cpu")
    assert (loaded.config.decode, loaded.config.blend) == (DecodeConfig(), 0)
    assert torch.equal(policy.predict_action_chunk(observation()), loaded.predict_action_chunk(observation()))


def counting(policy):
    """Make a policy's k-th chunk 100 k + the step, in all dimensions and rows."""
    made = []

    def predict(batch):
        made.append(100.0 * (len(made) + 1))
        return (made[-1] + torch.arange(HORIZON).float()).view(1, -1, 1).repeat(2, 1, ACTIONS)

    policy.predict_action_chunk = predict
    return policy


def test_the_overlap_of_two_chunks_is_blended_linearly():
    policy = counting(make("regression", blend=3))
    played = [policy.select_action(observation(2)) for _ in range(12)]
    # Chunks of 8, of which 4 are executed: the first has 104 to 107 for the times of 200 to 203.
    second = [0.75 * 104 + 0.25 * 200, 0.5 * 105 + 0.5 * 201, 0.25 * 106 + 0.75 * 202, 203]
    third = [0.75 * 204 + 0.25 * 300, 0.5 * 205 + 0.5 * 301, 0.25 * 206 + 0.75 * 302, 303]
    wanted = torch.tensor([100, 101, 102, 103, *second, *third])
    assert torch.equal(torch.stack(played), wanted.view(-1, 1, 1).expand(-1, 2, ACTIONS))
    policy.reset()
    assert (policy.select_action(observation(2)) == 400).all()


def test_without_blending_chunks_follow_each_other_as_they_are():
    policy = counting(make("regression"))
    played = [float(policy.select_action(observation(2))[0, 0]) for _ in range(8)]
    assert played == [100, 101, 102, 103, 200, 201, 202, 203]


def test_more_than_the_overlap_cannot_be_blended():
    with pytest.raises(ConfigError, match="blend: 5 given, allowed: 0 to chunk_size - n_action_steps = 4"):
        make("regression", blend=5)
