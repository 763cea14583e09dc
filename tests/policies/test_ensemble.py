"""An ensemble is one policy: its members learn, are saved and act together; one member is the policy of before."""

import pytest
import torch

from anyorder.errors import CheckpointError, ConfigError
from anyorder.policies import AnyOrderPolicy
from anyorder.training.checkpoint import load_policy

from .test_policy import HORIZON, chunks, every_family, make, observation


def learnt(family, **settings):
    policy = make(family, **settings)
    # Fresh networks of values all predict zeros, and an ordinal head answers every observation alike.
    with torch.no_grad():
        for i, network in enumerate(policy.networks):
            if hasattr(network, "value_out"):
                network.value_out.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(i))
            elif network.head is not None:
                network.head.out.weight.normal_(std=0.3, generator=torch.Generator().manual_seed(i))
    return policy


@every_family
def test_it_acts_learns_and_is_saved_like_any_policy(family, tmp_path):
    policy = learnt(family, ensemble=3)
    batch = {**observation(16), "action": chunks()[:16]}
    loss, _ = policy(batch, generator=torch.Generator().manual_seed(0), progress=0.5)
    loss.backward()
    for member in (policy, *policy.others):
        assert any(p.grad is not None and p.grad.any() for p in member.network.parameters())
        assert any(p.grad is not None and p.grad.any() for p in member.encoder.parameters())
    first, *others = [dict(member.network.named_parameters()) for member in (policy, *policy.others)]
    assert all(not torch.equal(first[name], other[name]) for other in others for name in first if "embedding" in name)
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    assert loaded.config.ensemble == 3
    for p in (policy, loaded):
        p.manual_seed(5)
    one, two = (p.predict_action_chunk(observation(16)) for p in (policy, loaded))
    assert torch.equal(one, two)
    low, high = chunks().flatten(0, 1).aminmax(dim=0)
    assert ((one >= low - 1e-3) & (one <= high + 1e-3)).all()


@every_family
def test_one_member_has_no_further_weights(family):
    one, three = make(family), make(family, ensemble=3)
    names = set(one.state_dict())
    assert not any("others" in name for name in names)
    assert names < set(three.state_dict())
    fresh = three.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in one.state_dict().items() if "encoder" in name)


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion"])
def test_its_likelihood_is_the_mean_of_its_members(family):
    policy = make(family, ensemble=3).eval()
    batch = {**observation(8), "action": chunks()[:8]}
    found = policy.log_prob(batch, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        code, context, draws = policy.codec.encode(batch), policy.context(batch), torch.Generator().manual_seed(0)
        alone = [
            policy.factorization.log_prob(network, code, context[:, i], generator=draws).value
            for i, network in enumerate(policy.networks)
        ]
    mean = torch.stack(alone).exp().mean(0).log() if family == "autoregressive" else None
    if mean is not None and mean.isfinite().all():
        torch.testing.assert_close(found.value, mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.value, torch.stack(alone).logsumexp(0) - torch.tensor(3.0).log())
    assert not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("family", ["autoregressive", "regression"])
def test_guidance_asks_every_member_twice(family):
    # One call a token: how many calls lookahead takes depends on what is guessed right.
    options = {"lookahead": 1} if family == "autoregressive" else {}
    settings = {"tokenizer": "dct", "tokenizer_options": {}, "factorization_options": options}
    policy = learnt(family, **settings, ensemble=2, context_dropout=0.1)
    policy.predict_action_chunk(observation(16))
    once, policy.calls, policy.config.guidance = policy.calls, 0, 2.0
    policy.manual_seed(0)
    chunk = policy.predict_action_chunk(observation(16))
    assert policy.calls == 2 * once
    assert chunk.isfinite().all()
    loss, _ = policy.train()({**observation(16), "action": chunks()[:16]})
    assert loss.isfinite()


def test_the_mean_of_regressions_is_taken():
    policy = learnt("regression", ensemble=2)
    with torch.no_grad():
        for network in policy.networks:
            network.value_out.weight.mul_(0.05)  # within the range, where nothing is clipped
    found = policy.predict_action_chunk(observation())
    alone = []
    for member in (policy, policy.others[0]):
        single = learnt("regression")
        single.network.load_state_dict(member.network.state_dict())
        single.encoder.load_state_dict(member.encoder.state_dict())
        alone.append(single.predict_action_chunk(observation()))
    torch.testing.assert_close(found, torch.stack(alone).mean(0), rtol=1e-4, atol=1e-3)
    assert found.shape == (4, HORIZON, 3)


def test_the_number_of_members_is_fixed_by_training(tmp_path):
    policy = make(ensemble=2)
    policy.save_pretrained(tmp_path)
    policy.config.ensemble = 3
    with pytest.raises(
        (CheckpointError, ConfigError), match="ensemble: 3 given, allowed: 2, as the policy was trained"
    ):
        AnyOrderPolicy.from_pretrained(tmp_path, config=policy.config)
    with pytest.raises(ConfigError, match="ensemble: 0 given"):
        make(ensemble=0)
