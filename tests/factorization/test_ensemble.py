"""An ensemble is the mean of its members' joints: its law enumerated, sampled, bounded."""

import math

import pytest
import torch

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization import Ensemble, Request, TokenFactorization
from anyorder.testing.probes import (
    LENGTH,
    LEVELS,
    ROWS,
    VOCAB,
    Spoiled,
    assert_follows,
    chunks_for,
    generator,
    log_law,
    network_for,
    observations,
)
from anyorder.testing.toy import TabularNetwork

from .families import CONFIGS, every_config, family, named

EXACT = [config for config in CONFIGS if config.build().exact]
BOUNDS = [config for config in CONFIGS if config.build().exact is False]


def tables(perturb=0.5, members=3):
    return [TabularNetwork(LENGTH, VOCAB, seed=seed, perturb=perturb, levels=LEVELS) for seed in range(members)]


def contexts(rows, members=3):
    return torch.zeros(rows, members, 1, 1)


@pytest.mark.parametrize("config", EXACT, ids=named)
def test_the_law_is_the_mean_of_the_members_and_sums_to_one(config):
    made, networks = config.build(), tables()
    codes = networks[0].codes
    found = Ensemble(made, networks).log_prob(codes, contexts(len(codes)), generator=generator())
    mean = torch.stack([log_law(made, network).exp() for network in networks]).mean(0)
    torch.testing.assert_close(found.value.exp(), mean, rtol=0, atol=1e-12)
    assert found.value.exp().sum().item() == pytest.approx(1, abs=1e-10)
    assert not found.standard_error.any()


@pytest.mark.parametrize("config", [config for config in EXACT if config.build().simulates], ids=named)
def test_samples_follow_the_law_of_the_mixture(config):
    made, networks = config.build(), tables()
    sample = Ensemble(made, networks).sample(contexts(ROWS), Request(generator(8)))
    law = torch.stack([log_law(made, network).exp() for network in networks]).mean(0)
    assert_follows(sample.chunk, law, networks[0].codes, "samples of the mixture")


def test_it_is_not_the_mean_of_conditionals():
    # Two members, each sure of one code: the mixture draws these two alone.
    networks = tables(0.0, 2)
    for token, network in enumerate(networks):
        network.table = torch.full_like(network.table, -math.inf)
        network.table[..., token] = 0.0
    sample = Ensemble(family("autoregressive"), networks).sample(contexts(200, 2), Request(generator()))
    found, counts = sample.chunk.unique(dim=0, return_counts=True)
    assert found.tolist() == [[0] * LENGTH, [1] * LENGTH]
    assert counts.min() > 70


@pytest.mark.parametrize("config", BOUNDS, ids=named)
def test_bounds_give_a_bound(config):
    made, networks = config.build(), tables(0.0)
    codes = networks[0].codes
    found = Ensemble(made, networks).log_prob(codes, contexts(len(codes)), generator=generator(), samples=64)
    # Of Gibbs: no bound averages above the negative entropy of the joint that the codes come from.
    truth = torch.stack([network.log_joint(codes).exp() for network in networks]).mean(0)
    gap = (truth * (truth.log() - found.value)).sum()
    error = (truth * found.standard_error).square().sum().sqrt()
    assert gap > -4 * error - 1e-10


@every_config
def test_every_family_can_be_mixed(config):
    made = config.build()
    networks = [network_for(made, seed=seed) for seed in (0, 1)]
    seen = torch.stack([observations(6), observations(6, seed=1)], 1)
    mixture, code = Ensemble(made, networks), chunks_for(made, 6)
    loss = mixture.loss(code, seen, generator=generator())
    draws = generator()
    alone = [made.loss(n, code, seen[:, i], generator=draws) for i, n in enumerate(networks)]
    torch.testing.assert_close(loss, torch.stack(alone).mean(0))
    loss.sum().backward()
    assert all(any(p.grad is not None and p.grad.any() for p in network.parameters()) for network in networks)
    with torch.no_grad():
        samples = [mixture.sample(seen, Request(generator(3))) for _ in range(2)]
        members = [made.sample(n, seen[:, i], Request(generator(3))).chunk for i, n in enumerate(networks)]
        if isinstance(made, TokenFactorization):
            found = mixture.log_prob(code, seen, generator=generator(), samples=4)
            assert found.value.shape == found.standard_error.shape == (6,)
    assert torch.equal(samples[0].chunk, samples[1].chunk)
    assert samples[0].chunk.isfinite().all()
    if made.deterministic:
        torch.testing.assert_close(samples[0].chunk, torch.stack(members).mean(0))
        assert samples[0].calls == 2 * made.calls(5)
    else:
        assert samples[0].chunk.shape == members[0].shape


def test_one_member_is_itself():
    made, network = family("autoregressive"), tables(members=1)
    codes = network[0].codes
    found = Ensemble(made, network).log_prob(codes, contexts(len(codes), 1), generator=generator())
    torch.testing.assert_close(found.value, log_law(made, network[0]))


def test_known_tokens_are_refused():
    known = torch.zeros(4, LENGTH, dtype=torch.int64)
    with pytest.raises(ConfigError, match=r"known: .* as an ensemble cannot condition"):
        Ensemble(family("autoregressive"), tables()).sample(contexts(4), Request(generator(), known=known))


def test_what_is_not_finite_names_its_row_of_the_batch():
    made = family("regression")
    networks = [network_for(made), Spoiled(network_for(made), math.nan, row=2)]
    seen = torch.stack([observations(4), observations(4)], 1)
    with torch.no_grad(), pytest.raises(NotFiniteError) as raised:
        Ensemble(made, networks).sample(seen, Request(generator()))
    assert raised.value.rows == (2,)
    made = family("autoregressive")
    networks = [network_for(made), Spoiled(network_for(made), math.nan, row=0)]
    seen = torch.stack([observations(40), observations(40)], 1)
    drawn = torch.randint(2, (40,), generator=generator())
    with torch.no_grad(), pytest.raises(NotFiniteError) as raised:
        Ensemble(made, networks).sample(seen, Request(generator()))
    assert raised.value.rows == (int(drawn.nonzero()[0]),)
