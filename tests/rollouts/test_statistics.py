import itertools
from math import comb

import numpy as np
import pytest
from scipy.stats import norm

from anyorder.errors import ConfigError
from anyorder.rollouts.statistics import (
    difference_over_seeds,
    holm,
    mcnemar_p,
    paired_interval,
    success_over_seeds,
    wilson_interval,
)


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (8, 10), (50, 50), (381, 1000)])
def test_wilson_interval(successes, trials):
    z, p = norm.ppf(0.975), successes / trials
    middle = (p + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(p * (1 - p) / trials + z**2 / (4 * trials**2))
    np.testing.assert_allclose(wilson_interval(successes, trials), (middle - half, middle + half), atol=1e-12)


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 7), (6, 16), (10, 10), (0, 12)])
def test_mcnemar_is_the_binomial_test_of_a_fair_coin(first, second):
    total = first + second
    tail = sum(comb(total, i) for i in range(min(first, second) + 1)) / 2**total
    assert mcnemar_p(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_p(first, second) == mcnemar_p(second, first)


def test_mcnemar_errs_at_most_as_often_as_it_says():
    for total in range(1, 14):
        weights = [comb(total, i) / 2**total for i in range(total + 1)]
        for level in (0.01, 0.05, 0.2):
            rejected = sum(w for i, w in enumerate(weights) if mcnemar_p(i, total - i) <= level)
            assert rejected <= level + 1e-12


@pytest.mark.parametrize(
    ("table", "limits"),
    [
        ((6, 16, 161), (-0.1240, -0.0054)),  # Cavo et al., 2012
        ((1, 7, 21), (-0.517, -0.026)),  # Bentur et al., 2009
    ],
)
def test_tango_interval_of_textbooks(table, limits):
    assert paired_interval(*table) == pytest.approx(limits, abs=5e-4)


def score(difference, first, second, pairs):
    """Return Tango's score statistic, its likelihood maximised numerically."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    with np.errstate(divide="ignore"):
        rest = pairs - first - second
        likelihood = (first * np.log(q + difference) if first else 0) + (second * np.log(q) if second else 0)
        likelihood = likelihood + (rest * np.log(1 - 2 * q - difference) if rest else 0)
    best = q[np.argmax(likelihood)]
    variance = 2 * best + difference - difference**2
    return (first - second - pairs * difference) / np.sqrt(pairs * variance)


@pytest.mark.parametrize("table", [(3, 1, 10), (0, 4, 10), (2, 2, 50), (40, 20, 160)])
def test_tango_limits_are_where_the_score_test_rejects(table):
    low, high = paired_interval(*table)
    z = norm.ppf(0.975)
    assert score(low, *table) == pytest.approx(z, abs=2e-3)
    assert score(high, *table) == pytest.approx(-z, abs=2e-3)


def test_tango_limits_without_differing_pairs():
    z2 = norm.ppf(0.975) ** 2
    for pairs in (1, 20, 100):
        edge = z2 / (pairs + z2)
        assert paired_interval(0, 0, pairs) == pytest.approx((-edge, edge))


@pytest.mark.parametrize("pairs", [1, 2, 7, 20])
def test_tango_intervals_are_symmetric_and_hold_the_estimate(pairs):
    for first, second in itertools.product(range(pairs + 1), repeat=2):
        if first + second <= pairs:
            low, high = paired_interval(first, second, pairs)
            assert -1 <= low <= (first - second) / pairs <= high <= 1
            assert paired_interval(second, first, pairs) == (-high, -low)
    assert paired_interval(pairs, 0, pairs)[1] == pytest.approx(1)


@pytest.mark.parametrize("pairs", [10, 20, 40])
def test_tango_intervals_cover_as_they_say(pairs):
    """Every table of so many pairs is enumerated, each with its probability."""
    tables = [(b, c) for b in range(pairs + 1) for c in range(pairs + 1 - b)]
    limits = np.array([paired_interval(b, c, pairs) for b, c in tables])
    ways = np.array([comb(pairs, b) * comb(pairs - b, c) for b, c in tables], dtype=float)
    b, c = np.array(tables).T
    coverage = []
    for first, second in itertools.product(np.linspace(0.05, 0.45, 5), repeat=2):
        weights = ways * first**b * second**c * (1 - first - second) ** (pairs - b - c)
        assert weights.sum() == pytest.approx(1)
        inside = (limits[:, 0] <= first - second) & (first - second <= limits[:, 1])
        coverage.append(weights[inside].sum())
    assert min(coverage) > 0.92
    assert 0.945 < np.mean(coverage) < 0.975


@pytest.mark.parametrize("table", [(-1, 0, 5), (3, 3, 5), (0, 0, 0), (0.5, 0, 5)])
def test_impossible_pairs_are_refused(table):
    with pytest.raises(ConfigError, match="given, allowed"):
        paired_interval(*table)


def test_holm_keeps_order_and_ends_at_one():
    assert holm([]) == []
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8, 0.001]) == [1.0, 1.0, 0.003]


def method(generator, seeds, rate, spread, ease, luck):
    """Return outcomes: ``spread`` varies between training seeds, ``ease`` between episodes, shared by methods."""
    odds = rate + spread * generator.normal(size=(seeds, 1)) + ease
    return luck < odds


def planted(generator, seeds, episodes, spread, hardness, shared):
    """Return two methods' outcomes with planted variance between training seeds and between episodes."""
    ease = hardness * generator.normal(size=(1 if shared else seeds, episodes))
    return [
        method(generator, seeds, rate, spread, ease, generator.normal(size=(seeds, episodes))) for rate in (0.5, 0.0)
    ]


def rates(spread, hardness):
    """Return the two methods' true success rates: normal numbers of known variance above zero."""
    return [norm.cdf(rate / np.sqrt(1 + spread**2 + hardness**2)) for rate in (0.5, 0.0)]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("seeds", "spread", "hardness"), [(3, 0.5, 0.5), (3, 0.0, 1.0), (5, 0.8, 0.3), (3, 0.0, 0.0)])
def test_intervals_over_seeds_cover_planted_variance(seeds, spread, hardness, shared):
    generator = np.random.default_rng(seeds)
    first, second = rates(spread, hardness)
    covered = []
    for _ in range(300):
        one, other = planted(generator, seeds, 40, spread, hardness, shared)
        low, high = success_over_seeds(one, shared=shared)
        least, most = difference_over_seeds(one, other, shared=shared)
        covered.append((low <= first <= high, least <= first - second <= most))
    assert (np.mean(covered, axis=0) > 0.92).all()


def test_what_covers_episodes_alone_does_not_cover_seeds():
    generator = np.random.default_rng(0)
    first, _ = rates(0.8, 0.3)
    covered = []
    for _ in range(300):
        one, _ = planted(generator, 3, 40, 0.8, 0.3, shared=False)
        low, high = wilson_interval(int(one.sum()), one.size)
        means = one[generator.integers(0, 3, (200, 3))[:, :, None], generator.integers(0, 40, (200, 3, 40))].mean(
            (1, 2)
        )
        least, most = np.quantile(means, (0.025, 0.975))
        covered.append((low <= first <= high, least <= first <= most))
    wilson, bootstrap = np.mean(covered, axis=0)
    assert wilson < 0.7
    assert bootstrap < 0.9


def test_intervals_over_seeds_are_t_intervals_of_seeds_with_episodes_of_their_own():
    outcomes = [[1] * count + [0] * (50 - count) for count in (45, 25, 35)]
    half = 4.302653 * np.std([0.9, 0.5, 0.7], ddof=1) / np.sqrt(3)
    assert success_over_seeds(outcomes, shared=False) == pytest.approx((0.7 - half, 1.0))
    none = np.zeros((3, 50))
    assert difference_over_seeds(outcomes, none, shared=False) == pytest.approx((0.7 - half, 1.0))


@pytest.mark.parametrize("shared", [False, True])
def test_equal_seeds_leave_the_interval_of_episodes(shared):
    ones = np.ones((3, 20))
    assert success_over_seeds(ones, shared=shared) == pytest.approx(wilson_interval(60, 60))
    assert difference_over_seeds(ones, ones, shared=shared) == pytest.approx(paired_interval(0, 0, 60))


@pytest.mark.parametrize("outcomes", [[[1, 0]], [1, 0], [[1], [0]], [[1, float("nan")], [0, 1]], [[2, 0], [1, 1]]])
def test_other_outcomes_are_refused(outcomes):
    with pytest.raises(ConfigError, match=r"outcomes: .* given, allowed"):
        success_over_seeds(outcomes, shared=True)


def test_methods_need_the_same_episodes():
    with pytest.raises(ConfigError, match="second"):
        difference_over_seeds(np.ones((2, 4)), np.ones((2, 5)), shared=False)
