"""Critical compute: from which training compute on one factorization has the lower loss than another.

At unique tokens U and compute C = 6 N D each family takes the N with the lowest loss, ``L(C, U) = min_N L(N,
C / (6 N), U)`` (our reading, as the paper does not say how it minimizes). Where a law rises again, as the
one of overfitting does, a family is not made to spend what harms it: the lowest loss at up to C counts.
C_crit(U) is where the gap of two families is 0. The paper drops E in this comparison, as two fits can differ
in what they count as entropy; kept, the gap is that of the losses themselves. Both are given. C in FLOPs, U in
the tokens of the table.

The paper is Prabhudesai et al., Diffusion Beats Autoregressive in Data-Constrained Settings, 2025, arXiv 2507.15857.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anyorder.laws.law import FLOPS_PER_PARAM_TOKEN, Array, Constant, exponents, predict

GRID_REACH = 14.0
"""N is looked for this many e-folds below and above its optimum at a single epoch."""
GRID_POINTS = 29
GOLDEN = (math.sqrt(5) - 1) / 2
GOLDEN_STEPS = 24
SCAN_PER_DECADE = 4
"""A scan for brackets looks at this many values of compute in each decade."""
SCAN_STEPS = 12
"""A scan for brackets takes this many steps of golden section, which leaves errors of 3e-3 of N, 1e-6 of the loss."""
STEPS = 11
"""A crossing is found in this many steps of false position, which leave an error of 1e-8 of C."""
SPARED_DECADES = 8
"""Where more training harms, compute is looked at down to this many decades below what is offered."""


@dataclass(frozen=True)
class Within:
    """Where N and D are looked for: their smallest and largest.

    Where a compute has no N and D within both, N keeps to its range and D leaves its own.
    """

    params: tuple[float, float]
    tokens: tuple[float, float]

    def ends(self, log_product: Array) -> tuple[Array, Array]:
        """Return the smallest and largest ln N, of ln (N D)."""
        (low, high), (least, most) = np.log(self.params), np.log(self.tokens)
        return np.clip(log_product - most, low, high), np.clip(log_product - least, low, high)


def best_loss(
    constants: Array,
    flops: ArrayLike,
    unique_tokens: ArrayLike,
    steps: int = GOLDEN_STEPS,
    within: Within | None = None,
) -> tuple[Array, Array]:
    """Return the lowest loss at a compute and the N that has it.

    Args:
        constants: (..., 10); the other arguments broadcast against the leading axes.
        flops: C.
        unique_tokens: U.
        steps: of golden section.
        within: bounds of N and D; none when None.

    Returns:
        Loss and parameters, both in the broadcast shape: the lowest on a grid of whole e-folds, or between the bounds,
        refined by golden section to 1e-5 of N.
    """
    c = np.asarray(constants, dtype=float)
    tokens_times_params = np.asarray(flops, dtype=float) / FLOPS_PER_PARAM_TOKEN
    alpha, beta, log_g = exponents(c)
    center = log_g + beta / (alpha + beta) * np.log(tokens_times_params)

    def loss(log_n: Array) -> Array:
        extra = log_n.ndim - center.ndim
        at = (..., *(None,) * extra)
        n = np.exp(log_n)
        cc = c.reshape(*c.shape[:-1], *(1,) * extra, c.shape[-1])
        return predict(cc, n, tokens_times_params[at] / n, np.asarray(unique_tokens, dtype=float)[at])

    # Broadcast once, so that the helper above can index.
    center = center + np.zeros(np.broadcast_shapes(center.shape, np.shape(unique_tokens)))
    tokens_times_params = np.broadcast_to(tokens_times_params, center.shape)
    unique_tokens = np.broadcast_to(unique_tokens, center.shape)
    c = np.broadcast_to(c, (*center.shape, c.shape[-1]))
    if within is None:
        start, end = center - GRID_REACH, center + GRID_REACH
    else:
        start, end = within.ends(np.log(tokens_times_params))
    spacing = (end - start) / (GRID_POINTS - 1)
    grid = start[..., None] + spacing[..., None] * np.arange(GRID_POINTS)
    lowest = np.take_along_axis(grid, np.argmin(loss(grid), axis=-1)[..., None], axis=-1)[..., 0]
    low, high = np.maximum(lowest - spacing, start), np.minimum(lowest + spacing, end)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(steps):
        down = at_left < at_right
        low, high = np.where(down, low, left), np.where(down, right, high)
        kept, kept_value = np.where(down, left, right), np.where(down, at_left, at_right)
        fresh = np.where(down, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        value = loss(fresh)
        left, right = np.where(down, fresh, kept), np.where(down, kept, fresh)
        at_left, at_right = np.where(down, value, kept_value), np.where(down, kept_value, value)
    log_n = 0.5 * (low + high)
    return loss(log_n), np.exp(log_n)


def best_up_to(
    constants: Array, flops: ArrayLike, unique_tokens: ArrayLike, within: Within | None = None
) -> tuple[Array, Array, Array]:
    """Return the lowest loss at up to a compute, its N, and the compute it takes; as ``best_loss``.

    All of the compute, unless the law rises again: then the best of a grid that goes down by 8 decades.
    """
    c, c_max = np.asarray(constants, dtype=float), np.asarray(flops, dtype=float)
    if not c[..., Constant.O].any():
        loss, n = best_loss(c, c_max, unique_tokens, within=within)
        return loss, n, np.broadcast_to(c_max, loss.shape)
    spent = c_max[..., None] * np.logspace(0, -SPARED_DECADES, 20 * SPARED_DECADES + 1)
    unique = np.asarray(unique_tokens, dtype=float)[..., None]
    losses, params = best_loss(c[..., None, :], spent, unique, within=within)
    best = np.argmin(losses, axis=-1)[..., None]
    every = (losses, params, np.broadcast_to(spent, losses.shape))
    loss, n, used = (np.take_along_axis(values, best, axis=-1)[..., 0] for values in every)
    return loss, n, used


@dataclass(frozen=True)
class Lowest:
    """The lowest losses of a family at up to a compute, over compute.

    Attributes:
        constants: (sets, 10).
        unique_tokens: (points,) values of U.
        log_flops: (steps,) ln C.
        excess: (sets, points, steps) loss without E.
    """

    constants: Array
    unique_tokens: Array
    log_flops: Array
    excess: Array


def lowest_losses(constants: Array, unique_tokens: Array, between: tuple[float, float]) -> Lowest:
    """Scan compute between two values, FLOPs, for each of the constants (sets, 10) and of the values of U (points,)."""
    decades = math.log10(between[1] / between[0])
    count = max(2, math.ceil(decades * SCAN_PER_DECADE) + 1)
    log_c = np.linspace(np.log(between[0]), np.log(between[1]), count)
    u = np.asarray(unique_tokens, dtype=float)
    bare = without_e(constants)
    loss, _ = best_loss(bare[:, None, None], np.exp(log_c), u[:, None], SCAN_STEPS)
    return Lowest(constants, u, log_c, np.minimum.accumulate(loss, axis=-1))


def without_e(constants: Array) -> Array:
    """Return constants with E = 0."""
    bare = np.array(constants, dtype=float)
    bare[..., Constant.E] = 0.0
    return bare


def critical_flops(one: Lowest, other: Lowest, keep_e: bool = True) -> tuple[Array, Array]:
    """Return the compute at which the order of two families changes for the last time.

    Args:
        one: scanned over the same U and compute as ``other``.
        other: likewise.
        keep_e: compare the losses themselves, or without E.

    Returns:
        C_crit (sets, points), nan where the order never changes, found by false position in ln C; and the sign of
        ``L_one - L_other`` above it (or everywhere), (sets, points).
    """
    pair = (one, other)
    e = [scan.constants[:, Constant.E, None] * keep_e for scan in pair]
    difference = one.excess - other.excess + (e[0] - e[1])[..., None]
    scanned = sign_of(difference)
    changes = scanned[..., 1:] * scanned[..., :-1] < 0
    found = changes.any(-1)
    index = np.where(found, changes.shape[-1] - 1 - np.argmax(changes[..., ::-1], axis=-1), 0)[..., None]
    low, high = one.log_flops[index[..., 0]], one.log_flops[index[..., 0] + 1]
    at_low, at_high = (np.take_along_axis(difference, i, axis=-1)[..., 0] for i in (index, index + 1))
    above = sign_of(at_high)
    before = [np.take_along_axis(scan.excess, index, axis=-1)[..., 0] for scan in pair]
    for step in range(STEPS):
        if step % 3 == 2:  # now and then the middle, as one end may stay
            log_c = 0.5 * (low + high)
        else:
            slope = np.where(found, at_high - at_low, 1.0)
            log_c = np.where(found, low - at_low * (high - low) / slope, low)
        losses = [
            np.minimum(least, best_loss(without_e(scan.constants)[:, None], np.exp(log_c), one.unique_tokens)[0])
            for least, scan in zip(before, pair, strict=True)
        ]
        value = losses[0] - losses[1] + e[0] - e[1]
        over = sign_of(value) == above
        low, at_low = np.where(over, low, log_c), np.where(over, at_low, value)
        high, at_high = np.where(over, log_c, high), np.where(over, value, at_high)
    nearest = np.where(np.abs(at_low) < np.abs(at_high), low, high)
    return np.where(found, np.exp(nearest), np.nan), np.where(found, above, scanned[..., -1])


def sign_of(difference: Array) -> Array:
    """Return -1 or 1; an exact 0, as where the scan hits the crossing itself, counts as 1."""
    return np.where(difference < 0, -1.0, 1.0)


@dataclass(frozen=True)
class PowerLaw:
    """``log10(U / unit_tokens) = slope log10(C) + intercept``; C_crit(U) grows as U^(1 / slope).

    With the paper's constants, whose U is in millions of tokens:

    >>> print(f"{PowerLaw(0.460, -7.052, unit_tokens=1e6).flops(100e6):.2e}")
    4.77e+19
    """

    slope: float
    intercept: float
    unit_tokens: float = 1.0

    def flops(self, unique_tokens: float) -> float:
        """Return C_crit at U tokens."""
        return float(10 ** ((math.log10(unique_tokens / self.unit_tokens) - self.intercept) / self.slope))

    def unique_tokens(self, flops: float) -> float:
        """Return the U tokens at which ``flops`` are critical."""
        return float(self.unit_tokens * 10 ** (self.slope * math.log10(flops) + self.intercept))


def power_laws(flops: Array, unique_tokens: Array) -> Array:
    """Return slope and intercept of log10 U over log10 C by least squares, (sets, 2).

    Args:
        flops: (sets, points), nan where there is no C_crit.
        unique_tokens: (points,).

    Returns:
        nan for a set with fewer than two points, or whose C_crit does not depend on U.
    """
    y = np.log10(np.asarray(unique_tokens, dtype=float))
    result = np.full((len(flops), 2), np.nan)
    for row, values in enumerate(np.log10(flops)):
        some = np.isfinite(values)
        if some.sum() >= 2 and np.ptp(values[some]) > 1e-6:
            result[row] = np.polyfit(values[some], y[some], 1)
    return result
