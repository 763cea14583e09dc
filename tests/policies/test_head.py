"""Which distribution a policy's tokens have: decided by tokenizer and factorization, saved with it."""

import json

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.networks import HeadConfig, OrdinalHead
from anyorder.training.checkpoint import load_policy

from .test_policy import chunks, make, observation


def batch():
    return {**observation(8), "action": chunks(8)}


NUMBERS = ("bins", "bspline", "dct", "registers")


@pytest.mark.parametrize(
    ("family", "tokenizer", "ordinal"),
    [(family, "dct", True) for family in ("autoregressive", "masked_diffusion", "next_frequency", "uniform_diffusion")]
    + [("autoregressive", tokenizer, True) for tokenizer in NUMBERS]
    + [("autoregressive", "fast", False), ("score_entropy", "dct", False), ("embedding_diffusion", "dct", False)],
)
def test_auto_is_ordinal_where_tokens_are_numbers(family, tokenizer, ordinal, tmp_path):
    policy = make(family, tokenizer=tokenizer, tokenizer_options={})
    head = policy.config.head
    assert (head.distribution, head.expected_l1) == (("ordinal", 0.1) if ordinal else ("categorical", 0.0))
    assert make(family, tokenizer=tokenizer, tokenizer_options={}, head=HeadConfig(expected_l1=0.0)).lesson is None
    assert isinstance(policy.network.head, OrdinalHead) == ordinal
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    assert loaded.config.head == policy.config.head
    for p in (policy, loaded):
        p.manual_seed(5)
    first, second = (p.predict_action_chunk(observation()) for p in (policy, loaded))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("family", "tokenizer"), [("autoregressive", "fast"), ("score_entropy", "dct")])
def test_ordinal_is_refused_where_it_cannot_be(family, tokenizer):
    with pytest.raises(ConfigError, match=r"head\.distribution: 'ordinal' given, allowed: auto or categorical"):
        make(family, tokenizer=tokenizer, tokenizer_options={}, head=HeadConfig("ordinal"))


@pytest.mark.parametrize("tokenizer", ["fast", "registers"])
def test_noise_to_near_numbers_is_refused_where_tokens_are_not_one_number_each(tokenizer):
    noisy = {"factorization_options": {"noise": "gaussian"}}
    with pytest.raises(ConfigError, match=rf"tokenizer: '{tokenizer}' given, allowed: dct, bins, bspline"):
        make("uniform_diffusion", tokenizer=tokenizer, tokenizer_options={}, **noisy)
    policy = make("uniform_diffusion", tokenizer="dct", tokenizer_options={}, **noisy)
    assert policy.predict_action_chunk(observation()).isfinite().all()
    assert not any("tables" in name or "noise" in name for name in policy.state_dict())


def test_a_fresh_policy_starts_at_the_mean_and_width_of_its_codes():
    policy = make("autoregressive", tokenizer="dct", tokenizer_options={})
    codes = policy.codec.encode({**observation(200), "action": chunks()}).double()
    head = policy.network.head
    assert torch.allclose(head.mean[:-1, 0].double(), codes.mean(0), atol=1e-3)
    assert torch.allclose(head.mean[-1, 0].double(), codes.mean(), atol=1e-3)
    assert torch.allclose(head.spread[-1, 0].double(), codes.std(correction=0), atol=1e-2)


def test_a_policy_saved_before_there_were_heads_has_a_softmax(tmp_path):
    policy = make("autoregressive", tokenizer="dct", tokenizer_options={}, head=HeadConfig("categorical"))
    policy.save_pretrained(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    del saved["head"]
    file.write_text(json.dumps(saved))
    loaded = load_policy(tmp_path, "cpu")
    assert loaded.network.head is None
    assert torch.equal(policy.predict_action_chunk(observation()), loaded.predict_action_chunk(observation()))


def test_a_mixture_starts_near_the_ordinal_law_and_learns_its_gate(tmp_path):
    policy = make("autoregressive", tokenizer="dct", tokenizer_options={}, head=HeadConfig("mixture"))
    assert torch.sigmoid(policy.network.gate.bias).item() == pytest.approx(0.05)
    policy(batch())[0].backward()
    assert bool(policy.network.gate.weight.grad.abs().max() > 0)
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    assert torch.equal(policy.predict_action_chunk(observation()), loaded.predict_action_chunk(observation()))


@pytest.mark.parametrize("distribution", ["categorical", "ordinal", "mixture"])
@pytest.mark.parametrize("name", ["soft_targets", "expected_l1"])
def test_training_targets_are_in_the_training_loss_alone(distribution, name):
    plain, taught = (
        make("masked_diffusion", tokenizer="dct", tokenizer_options={}, head=HeadConfig(distribution, **options))
        for options in ({}, {name: 1.0})
    )
    assert plain.state_dict().keys() == taught.state_dict().keys()

    def of(policy, training):
        policy.train(training)
        return policy(batch(), generator=torch.Generator().manual_seed(0))[0]

    assert of(taught, training=True) > of(plain, training=True) + 0.1
    assert torch.equal(of(taught, training=False), of(plain, training=False))
    found = [p.log_prob(batch(), generator=torch.Generator().manual_seed(0), samples=2) for p in (plain, taught)]
    assert torch.equal(found[0].value, found[1].value)
    for policy in (plain, taught):
        policy.manual_seed(5)
    assert torch.equal(plain.predict_action_chunk(observation()), taught.predict_action_chunk(observation()))


@pytest.mark.parametrize(
    ("family", "tokenizer"), [("autoregressive", "fast"), ("score_entropy", "dct"), ("regression", "dct")]
)
@pytest.mark.parametrize("name", ["soft_targets", "expected_l1"])
def test_training_targets_are_refused_where_tokens_are_no_numbers(family, tokenizer, name):
    with pytest.raises(ConfigError, match=rf"head\.{name}: 0\.5 given, allowed: 0: this"):
        make(family, tokenizer=tokenizer, tokenizer_options={}, head=HeadConfig(**{name: 0.5}))
