"""Decoding as a decision: one token of a law over numbers, one chunk of several samples."""

import pytest
import torch

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization import Categorical, DecodeConfig, FactorizationConfig, Request, Slots
from anyorder.factorization.categorical import probabilities
from anyorder.factorization.conditionals import digits
from anyorder.factorization.decision import cluster, distances, mean, medoid
from anyorder.factorization.guidance import Guided
from anyorder.factorization.point_estimates import LocalMean, median, nearest_token
from anyorder.factorization.repeated import sample_repeated
from anyorder.testing.probes import Spoiled, exactly_one_two, generator, network_for, observations, ordinal_heads
from anyorder.testing.toy import TabularNetwork, context

POINTS = (LocalMean(2), median)
NUMBERS = ("autoregressive", "chunked", "independent", "masked_diffusion", "block_diffusion", "uniform_diffusion")


def family(name, **options):
    return FactorizationConfig.named(name, **options).build()


def test_of_two_far_codes_the_mean_is_neither_and_the_others_are_one():
    """The joint is two codes of probability 1/2 that stand for the values -1 and 1."""
    network = TabularNetwork(length=4, vocab_size=2, equal=1.0)
    codes = family("autoregressive").sample(network, context(40 * 33), Request(generator(0))).chunk
    values = (2.0 * codes - 1).view(40, 33, 4, 1)
    majority = values[:, :, 0, 0].mean(1).sign()
    assert (mean(values).abs() < 0.9).all()
    for rule in (medoid, lambda samples: cluster(samples, 0.2)):
        chosen = rule(values)
        assert torch.equal(chosen, majority.view(-1, 1, 1).expand(40, 4, 1))


def test_the_cluster_never_joins_samples_further_apart_than_twice_the_bandwidth():
    torch.manual_seed(0)
    places = torch.where(torch.rand(50, 16, 1, 1) < 0.5, -0.5, 0.5)
    samples = places + 0.05 * torch.randn(50, 16, 6, 2)
    left = (places < 0).sum(1).flatten()
    chosen = cluster(samples, 0.2).mean((1, 2))
    clear = left != 8
    assert torch.allclose(chosen.abs(), torch.full((50,), 0.5), atol=0.1)
    assert torch.equal(chosen[clear] < 0, left[clear] > 8)


def test_the_bandwidth_leads_from_the_medoid_to_the_mean():
    samples = torch.randn(20, 9, 5, 3, generator=generator(1))
    assert torch.equal(cluster(samples, 0.0), medoid(samples))
    assert torch.allclose(cluster(samples, 100.0), mean(samples), atol=1e-6)
    assert torch.allclose(distances(samples)[0, 0, 1], (samples[0, 0] - samples[0, 1]).square().mean().sqrt())
    for rule in (mean, medoid, lambda x: cluster(x, 0.3)):
        assert torch.equal(rule(samples[:, :1]), samples[:, 0])


@pytest.mark.parametrize("name", sorted(FactorizationConfig.choices))
def test_several_samples_are_those_of_a_repeated_context(name):
    made = family(name)
    network, seen = network_for(made), observations(3)
    one = sample_repeated(made, network, seen, Request(generator(2)), 1)
    assert torch.equal(one.chunk, made.sample(network, seen, Request(generator(2))).chunk)
    for asked in (network, Guided(network, 1.5, seen.shape[1])):
        many = sample_repeated(made, asked, seen, Request(generator(2)), 4)
        alone = made.sample(asked, seen.repeat_interleave(4, 0), Request(generator(2)))
        assert torch.allclose(many.chunk.double(), alone.chunk.double(), atol=1e-9)
        assert many.calls == alone.calls


def test_the_observation_is_encoded_once():
    network, read = network_for(family("autoregressive")), []
    encode = network.prefill
    network.prefill = lambda seen: (read.append(len(seen)), encode(seen))[1]
    chunk = sample_repeated(family("autoregressive"), network, observations(3), Request(generator(0)), 8).chunk
    assert (read, len(chunk)) == ([3], 24)


def test_what_is_not_finite_is_said_of_the_rows_of_the_batch():
    for name in ("autoregressive", "flow_matching"):
        made = family(name)
        spoiled = Spoiled(network_for(made), float("nan"), row=7)
        with pytest.raises(NotFiniteError, match="row 2:") as error:
            sample_repeated(made, spoiled, observations(4), Request(generator(0)), 3)
        assert error.value.rows == (2,)


def test_points_of_a_law_with_two_modes():
    law = torch.tensor([0.0, 0.15, 0.3, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4]).double()
    choose = lambda point: int(nearest_token(law.log(), (10,), point))  # noqa: E731
    assert int(law.argmax()) == 9
    # The mean of all is 4.8, and 4 to 8 are impossible.
    assert [choose(LocalMean(window)) for window in (0, 1, 9)] == [9, 9, 3]
    assert choose(median) == 3
    one_sided = torch.tensor([0.30, 0.25, 0.25, 0.2]).log()
    assert [int(nearest_token(one_sided, (4,), LocalMean(window))) for window in (0, 1, 3)] == [0, 0, 1]


@pytest.mark.parametrize("point", POINTS)
def test_only_possible_tokens_are_chosen(point):
    logits = torch.randn(200, 24, generator=generator(3)).double()
    allowed = torch.rand(200, 24, generator=generator(4)) < 0.3
    allowed[:, 5] = True
    for sizes in ((24,), (2, 3, 4)):
        token = nearest_token(Categorical(logits).restricted(allowed).logits, sizes, point)
        assert bool(allowed.gather(1, token.unsqueeze(1)).all())


@pytest.mark.parametrize("point", POINTS)
def test_digits_are_decided_one_by_one(point):
    first, second = (torch.randn(30, n, generator=generator(n)).double().log_softmax(-1) for n in (3, 5))
    whole = (second.unsqueeze(-1) + first.unsqueeze(-2)).flatten(1)
    found = digits(nearest_token(whole, (3, 5), point), (3, 5))
    assert torch.equal(found[:, 0], nearest_token(first, (3,), point))
    assert torch.equal(found[:, 1], nearest_token(second, (5,), point))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_token_is_made_of_what_is_not_finite(value):
    logits = torch.zeros(3, 4)
    logits[1, 2] = value
    with pytest.raises(NotFiniteError) as error:
        nearest_token(logits, (4,), median)
    assert error.value.rows == (1,)


@pytest.mark.parametrize("name", NUMBERS)
def test_families_take_points_of_numbers_at_temperature_zero_alone(name):
    made, seen = family(name), observations(40)
    with ordinal_heads():
        network = network_for(made)
    for asked in (network, Guided(network, 1.5, seen.shape[1])):
        for point in POINTS:
            request = {"temperature": 0.0, "point": point}
            legal = exactly_one_two()
            chunk = made.sample(asked, seen, Request(generator(1), constraint=legal, **request)).chunk
            assert bool(legal.accepts(chunk).all())
            chunk = made.sample(asked, seen, Request(generator(1), **request)).chunk
            again = made.sample(asked, seen, Request(generator(1), **request)).chunk
            assert torch.equal(chunk, again)
    drawn = [made.sample(network, seen, Request(generator(1), point=point)).chunk for point in (None, median)]
    assert torch.equal(*drawn)


def test_the_first_token_is_the_point_of_the_networks_law():
    made, seen = family("autoregressive"), observations(50)
    with ordinal_heads():
        network = network_for(made)
    start = Slots(torch.full((50, 1), 8), torch.full((50, 1), 5), torch.zeros(50, 1, dtype=torch.int64))
    law = network(start, network.prefill(seen))[0]
    wanted = (probabilities(law.logits[:, 0], 1.0).cumsum(-1) < 0.5).sum(-1)
    chunk = made.sample(network, seen, Request(generator(0), temperature=0.0, point=median)).chunk
    assert torch.equal(chunk[:, 0], wanted)


@pytest.mark.parametrize("name", [*NUMBERS, "score_entropy", "embedding_diffusion"])
def test_a_softmax_over_no_numbers_has_no_such_point(name):
    made, seen = family(name), observations(2)
    with pytest.raises(ConfigError, match=r"point: .* given, allowed: mode"):
        made.sample(network_for(made), seen, Request(generator(0), temperature=0.0, point=median))


def test_settings_are_checked():
    for field, value in {"rule": "best", "samples": 0, "temperature": 0.0, "bandwidth": -1.0, "point": "mean"}.items():
        with pytest.raises(ConfigError, match=f"^{field}: "):
            DecodeConfig(**{field: value})
    assert DecodeConfig().build_rule() is None
    assert DecodeConfig().build_point() is None
    assert DecodeConfig(point="local_mean", window=3).build_point() == LocalMean(3)
