"""Statistics of success: intervals and tests of rates, of pairs of policies, and over training seeds.

Policies that are rolled out on the same episode seeds are paired: only episodes in which one of the two succeeds and
the other fails tell them apart.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anyorder.errors import ConfigError, check_number

CONFIDENCE = 0.95
"""The share of samples whose interval covers the truth, for all intervals of success."""
HALVINGS = 60
"""Of the interval from -1 to 1 in search of a limit: below the precision of a float."""


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's exact test that two paired policies succeed equally often.

    Given how many pairs differ, that many coins are tossed under the hypothesis, so p is that of a binomial test of
    ``only_first`` among ``only_first + only_second`` with probability 1/2; without such pairs it is 1.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947), 153-157.

    Args:
        only_first: pairs in which only the first succeeds.
        only_second: pairs in which only the second does.

    Complete response before and after consolidation therapy, 161 patients (Cavo et al., 2012, in Fagerland, Lydersen
    and Laake, "Statistical Analysis of Contingency Tables", 2017, chapter 8):

    >>> round(mcnemar_p(6, 16), 6), mcnemar_p(0, 0)
    (0.052479, 1.0)
    """
    from scipy.stats import binomtest

    check_number("only_first", only_first, 0, whole=True)
    check_number("only_second", only_second, 0, whole=True)
    differing = only_first + only_second
    return float(binomtest(only_first, differing).pvalue) if differing else 1.0


def paired_interval(only_first: int, only_second: int, pairs: int) -> tuple[float, float]:
    """Return Tango's 95 % score interval of the difference of two paired proportions, the first minus the second.

    It holds every difference d that the score test does not reject: ``|b - c - n d| <= z sqrt(n (2 q + d (1 - d)))``
    with ``b = only_first``, ``c = only_second``, ``n = pairs`` and q the maximum-likelihood estimate, given d, of
    the probability that only the second succeeds. It stays within -1 and 1 and has a width without differing pairs.

    Source: Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17 (1998), 891-908.

    Args:
        only_first: pairs in which only the first succeeds.
        only_second: pairs in which only the second does.
        pairs: all pairs.

    Raises:
        ConfigError: a count is negative, or more pairs differ than there are.

    The patients of ``mcnemar_p``; the same chapter has these limits:

    >>> [round(limit, 4) for limit in paired_interval(6, 16, 161)]
    [-0.124, -0.0054]
    >>> [round(limit, 3) for limit in paired_interval(0, 0, 1)]
    [-0.793, 0.793]
    """
    check_number("pairs", pairs, 1, whole=True)
    check_number("only_first", only_first, 0, pairs, whole=True)
    check_number("only_second", only_second, 0, pairs - only_first, whole=True)
    return -_upper_limit(only_second, only_first, pairs), _upper_limit(only_first, only_second, pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for the number of tests, so that any error at all has its stated probability.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it and at most 1.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
    (1979), 65-70.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    corrected = [1.0] * len(p_values)
    least = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def success_over_seeds(outcomes: ArrayLike, *, shared: bool) -> tuple[float, float]:
    """Return a 95 % interval of a method's success rate that covers the luck of episodes and of training seeds.

    A mixed interval: training seeds and episodes are both drawn at random, and Student's t has as many degrees of
    freedom as the mean squares have (Satterthwaite). Where each training seed met episodes of its own, this is the t
    interval of the seeds' rates. Where all met the same ones, ``(MS_seeds + MS_episodes - MS_rest) / size`` is the
    variance of the mean, never taken below that of seeds or of episodes alone. It is at least as wide as Wilson's
    interval of all episodes, as equal seeds do not prove that seeds do not matter.

    A bootstrap over seeds and episodes needs many seeds: with three its 95 % intervals cover about 85 %.

    Source: Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2
    (1946), 110-114; Searle, Casella and McCulloch, "Variance Components", 1992.

    Args:
        outcomes: whether an episode succeeded, (training seeds, episodes).
        shared: whether all training seeds met the same episodes, a column being one episode.

    Raises:
        ConfigError: fewer than two training seeds, of shared episodes fewer than two, or other values than 0 and 1.

    Three training seeds with 9, 5 and 7 successes in 10; Wilson's interval of 21 in 30 is 0.52 to 0.83:

    >>> outcomes = [[1] * count + [0] * (10 - count) for count in (9, 5, 7)]
    >>> [round(limit, 2) for limit in success_over_seeds(outcomes, shared=False)]
    [0.2, 1.0]
    """
    values = _outcomes("outcomes", outcomes, shared)
    alone = wilson_interval(int(values.sum()), values.size)
    return _around(values, shared, alone, least=0.0)


def difference_over_seeds(first: ArrayLike, second: ArrayLike, *, shared: bool) -> tuple[float, float]:
    """Return a 95 % interval of the difference of two methods' success rates over episodes and training seeds.

    The interval is that of ``success_over_seeds``, of the differences between pairs, and at least as wide as Tango's
    (``paired_interval``) of all pairs.

    Args:
        first: whether an episode succeeded, (training seeds, episodes).
        second: the same of the other method, in the same episodes.
        shared: whether all training seeds met the same episodes, a column being one episode.

    Raises:
        ConfigError: as ``success_over_seeds``, or the shapes differ.

    >>> first, second = [[1, 1, 1, 0], [1, 1, 0, 1]], [[0, 1, 1, 0], [1, 0, 0, 1]]
    >>> [round(limit, 2) for limit in difference_over_seeds(first, second, shared=False)]
    [-0.16, 0.59]
    """
    one, other = _outcomes("first", first, shared), _outcomes("second", second, shared)
    if one.shape != other.shape:
        raise ConfigError("second", other.shape, f"outcomes of the same episodes, {one.shape}")
    values = one - other
    alone = paired_interval(int((values > 0).sum()), int((values < 0).sum()), values.size)
    return _around(values, shared, alone, least=-1.0)


def _outcomes(field: str, outcomes: ArrayLike, shared: bool) -> NDArray[np.float64]:
    values = np.asarray(outcomes, dtype=float)
    least = 2 if shared else 1
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < least:
        raise ConfigError(field, values.shape, f"(training seeds, episodes), at least (2, {least})")
    if not np.isin(values, (0, 1)).all():
        raise ConfigError(field, float(values[~np.isin(values, (0, 1))][0]), "0 or 1")
    return values


def _around(values: NDArray[np.float64], shared: bool, alone: tuple[float, float], least: float) -> tuple[float, float]:
    """Return the mixed interval of a mean, joined with ``alone``, that of episodes, within ``least`` and 1."""
    half = _half_width(values, shared)
    mean = float(values.mean())
    return max(least, min(alone[0], mean - half)), min(1.0, max(alone[1], mean + half))


def _half_width(values: NDArray[np.float64], shared: bool) -> float:
    from scipy.stats import t

    seeds, episodes = values.shape
    mean = values.mean()
    by_seed = values.mean(1) - mean
    of_seeds = episodes * float(by_seed @ by_seed) / (seeds - 1)
    total, parts = of_seeds, of_seeds**2 / (seeds - 1)
    if shared:
        by_episode = values.mean(0) - mean
        rest = values - mean - by_seed[:, None] - by_episode
        of_episodes = seeds * float(by_episode @ by_episode) / (episodes - 1)
        of_rest = float((rest**2).sum()) / ((seeds - 1) * (episodes - 1))
        # An estimate of a variance component may be negative: none is taken below 0.
        total = max(of_seeds, of_episodes, of_seeds + of_episodes - of_rest)
        parts += of_episodes**2 / (episodes - 1) + of_rest**2 / ((seeds - 1) * (episodes - 1))
    if total <= 0:
        return 0.0
    freedom = max(1.0, total**2 / parts)
    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom)) * math.sqrt(total / values.size)


def _upper_limit(only_first: int, only_second: int, pairs: int) -> float:
    """Return the largest difference that Tango's score test does not reject."""
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + CONFIDENCE / 2))
    b, c, n = only_first, only_second, pairs
    low, high = (b - c) / n, 1.0
    for _ in range(HALVINGS):
        d = (low + high) / 2
        linear = (2 * n - b + c) * d - b - c
        q = (math.sqrt(linear**2 + 8 * n * c * d * (1 - d)) - linear) / (4 * n)
        inside = n * d - (b - c) <= z * math.sqrt(max(0.0, n * (2 * q + d * (1 - d))))
        low, high = (d, high) if inside else (low, d)
    return low
