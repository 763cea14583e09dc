"""Checks of a factorization against enumerated laws: likelihoods, bounds, samples, conditionals."""

import math
from typing import Any

import torch
from scipy import stats

from anyorder.factorization import UNKNOWN, Request, TokenFactorization
from anyorder.testing.probes import (
    FALSE_ALARM,
    LENGTH,
    LEVELS,
    ROWS,
    VOCAB,
    assert_follows,
    check,
    exact,
    exactly_one_two,
    generator,
    log_law,
    network_for,
    observations,
    scores,
)
from anyorder.testing.toy import TabularNetwork, context


@check(exact)
def probabilities_sum_to_one(family: TokenFactorization) -> None:
    """On conditionals that fit no joint, and on a transformer, where any leak of the future would show."""
    inconsistent = TabularNetwork(LENGTH, VOCAB, seed=1, perturb=0.5, levels=LEVELS)
    total = float(log_law(family, inconsistent).exp().sum())
    assert math.isclose(total, 1.0, abs_tol=1e-12), f"probabilities sum to {total}"
    network = network_for(family, LENGTH, VOCAB)
    seen = observations(1).expand(len(inconsistent.codes), -1, -1)
    estimate = family.log_prob(network, inconsistent.codes, seen, generator=generator(), samples=1)
    total = float(estimate.value.detach().exp().sum())
    assert math.isclose(total, 1.0, abs_tol=1e-10), f"probabilities of a transformer sum to {total}"
    assert not estimate.standard_error.any(), "an exact likelihood has no standard error"


@check(lambda family: scores(family) and not family.exact and family.simulates)
def bound_is_below_the_truth(family: TokenFactorization) -> None:
    """The truth being the law of its samples, which fit no joint here: estimated, with its upper limit."""
    network = TabularNetwork(LENGTH, VOCAB, seed=1, perturb=0.5, levels=LEVELS)
    rows = 20_000
    codes = family.sample(network, context(rows), Request(generator(2))).chunk
    count = (codes.unsqueeze(0) == network.codes.unsqueeze(1)).all(2).sum(1).numpy()
    limit = torch.from_numpy(stats.beta.ppf(1 - FALSE_ALARM / len(count), count + 1, rows - count))
    bound = family.log_prob(network, network.codes, context(len(count)), generator=generator(3), samples=256)
    above = bound.value - limit.log() - 4 * bound.standard_error
    assert float(above.max()) <= 0, f"the bound exceeds the likelihood by {float(above.max()):.3f} nats"


@check(scores)
def scores_no_better_than_the_data(family: TokenFactorization) -> None:
    """Gibbs: no likelihood or bound averages above the negative entropy of the joint that codes come from."""
    network = TabularNetwork(LENGTH, VOCAB, seed=3, levels=LEVELS)
    estimate = family.log_prob(network, network.codes, context(len(network.codes)), generator=generator(), samples=128)
    weight = network.log_joint(network.codes).exp()
    gap = float((weight * (network.log_joint(network.codes) - estimate.value)).sum())
    error = float((weight * estimate.standard_error).square().sum().sqrt())
    assert gap > -4 * error - 1e-10, f"scores average {-gap:.3f} nats above the data's own"


@check(lambda family: scores(family) and family.loss_scores)
def loss_is_an_unbiased_draw_of_the_score(family: TokenFactorization) -> None:
    """Mean loss over many draws against ``log_prob`` over many others, for one code."""
    network = TabularNetwork(LENGTH, VOCAB, seed=4, perturb=0.5, levels=LEVELS)
    code = network.codes[14].expand(ROWS, -1)
    draws = family.loss(network, code, context(ROWS), generator=generator(5))
    score = family.log_prob(network, code[:1], context(1), generator=generator(6), samples=ROWS)
    error = math.hypot(float(draws.std()) / ROWS**0.5, float(score.standard_error[0]))
    difference = abs(float(draws.mean() + score.value[0]))
    assert difference <= 4 * error + 1e-10, f"mean loss is {difference:.4f} nats off (s.e. {error:.4f})"


@check(scores)
def token_scores_sum_to_the_score(family: TokenFactorization) -> None:
    """Per-token log-probabilities add up, draw for draw."""
    network = TabularNetwork(LENGTH, VOCAB, seed=4, perturb=0.5, levels=LEVELS)
    rows = context(len(network.codes))
    parts = family.token_log_probs(network, network.codes, rows, generator=generator(7), samples=8)
    whole = family.log_prob(network, network.codes, rows, generator=generator(7), samples=8).value
    assert parts.shape == network.codes.shape, f"shape {tuple(parts.shape)}"
    off = whole - parts.sum(1)
    # A mixture of orders has no shares that sum to its logarithm; by Jensen they stay below.
    one = family.mixture == 1
    good = bool((off.abs() < 1e-10).all()) if one else bool((off > -1e-10).all())
    assert good, f"shares are up to {float(off.abs().max()):.2e} nats off"


@check(lambda family: exact(family) and family.simulates)
def samples_follow_the_likelihood(family: TokenFactorization) -> None:
    """Chi-square against the enumerated law, on conditionals that fit no joint."""
    network = TabularNetwork(LENGTH, VOCAB, seed=5, perturb=0.6, levels=LEVELS)
    sample = family.sample(network, context(ROWS), Request(generator(8)))
    assert_follows(sample.chunk, log_law(family, network).exp(), network.codes, "samples")


@check(lambda family: exact(family) and family.mixture == 1)
def cached_sampling_equals_scoring(family: TokenFactorization) -> None:
    """What the sampler says it drew from, with its cache, is what one call without a cache scores.

    Whatever the temperature, nucleus and constraint; tokens that were given do not count.
    """
    network, seen = network_for(family), observations(6)
    known = torch.full((6, 5), UNKNOWN)
    known[:, 0] = 2
    ways: dict[str, dict[str, Any]] = {
        "plainly": {},
        "at temperature 0.5": {"temperature": 0.5, "nucleus": 0.8},
        "under a constraint": {"constraint": exactly_one_two()},
    }
    if family.infills is not None:
        ways["given the first token"] = {"known": known}
    for way, settings in ways.items():
        sample = family.sample(network, seen, Request(generator(9), **settings))
        assert sample.log_prob is not None, "log_prob is missing"
        scored = family.token_log_probs(network, sample.chunk, seen, generator=generator(), samples=1)
        if "known" in settings:
            scored = scored.masked_fill(known >= 0, 0.0)
        off = float((sample.log_prob - scored.sum(1)).detach().abs().max())
        assert off < 1e-10, f"sampled {way}, cached and uncached log-probabilities differ by {off:.1e}"


@check(lambda family: exact(family) and family.simulates and family.infills is not None)
def samples_given_a_prefix_follow_the_conditional(family: TokenFactorization) -> None:
    """Chi-square against the enumerated conditional given the first token."""
    network = TabularNetwork(LENGTH, VOCAB, seed=9, perturb=0.4, levels=LEVELS)
    known = torch.tensor([[2, UNKNOWN, UNKNOWN]]).expand(ROWS, -1)
    sample = family.sample(network, context(ROWS), Request(generator(1), known=known))
    law = log_law(family, network).exp() * (network.codes[:, 0] == 2)
    assert_follows(sample.chunk, law / law.sum(), network.codes, "samples given the first token")


@check(lambda family: scores(family) and family.infills == "any" and family.simulates)
def infilling_follows_the_conditional(family: TokenFactorization) -> None:
    """Chi-square against a joint's conditional given the middle token, on conditionals that fit that joint."""
    network = TabularNetwork(LENGTH, VOCAB, seed=9, levels=LEVELS)
    known = torch.tensor([[UNKNOWN, 1, UNKNOWN]]).expand(ROWS, -1)
    sample = family.sample(network, context(ROWS), Request(generator(1), known=known))
    law = network.log_joint(network.codes).exp() * (network.codes[:, 1] == 1)
    assert_follows(sample.chunk, law / law.sum(), network.codes, "samples given the middle token")
