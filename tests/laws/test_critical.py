"""Critical compute: closed forms, symmetries, a planted pair."""

import math
from dataclasses import replace

import numpy as np
import pytest

from anyorder.laws.config import FitConfig
from anyorder.laws.critical import PowerLaw, best_loss, critical_flops, lowest_losses, power_laws
from anyorder.laws.law import constants_array, predict
from anyorder.laws.laws import fit_laws
from anyorder.laws.pairs import compare_pairs
from anyorder.reports.laws import pair_text
from tests.laws.planted import AR, DIFFUSION, planted, together

U = np.array([25e6, 50e6, 100e6])


def plain(a, b, alpha, beta, e=1.7):
    return constants_array({"A": a, "B": b, "E": e, "alpha": alpha, "beta": beta})


def cross(one, other, u, between, keep_e=True):
    return critical_flops(*(lowest_losses(c[None], u, between) for c in (one, other)), keep_e)


def gap(one, other, flops, unique_tokens):
    return float(best_loss(one, flops, unique_tokens)[0] - best_loss(other, flops, unique_tokens)[0])


def lowest(c, flops):
    """The closed form without decay: E + K C^-p."""
    a, b, alpha, beta = c[0], c[1], c[3], c[4]
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    n = g * (flops / 6) ** (beta / (alpha + beta))
    return c[2] + a * n**-alpha + b * (flops / 6 / n) ** -beta


def test_the_lowest_loss_has_the_closed_form_without_decay():
    c = plain(400, 1500, 0.34, 0.36)
    flops = np.geomspace(1e12, 1e26, 15)
    loss, n = best_loss(c, flops, 1e8)
    np.testing.assert_allclose(loss, lowest(c, flops), rtol=1e-9)
    assert (np.diff(n) > 0).all()


def test_no_params_do_better():
    n = np.geomspace(1e4, 1e13, 20_001)
    for flops in (1e17, 1e20, 1e23):
        tried = predict(AR, n, flops / 6 / n, 1e8).min()
        assert float(best_loss(AR, flops, 1e8)[0]) == pytest.approx(float(tried), rel=1e-7)
        assert float(best_loss(AR, flops, 1e8)[0]) <= tried * (1 + 1e-12)


def test_crossing_of_two_laws_in_closed_form():
    """K1 C^-p1 = K2 C^-p2 with equal E."""
    one, other = plain(400, 400, 0.30, 0.30), plain(1500, 1500, 0.36, 0.36)
    k = [(lowest(c, 1.0) - 1.7) for c in (one, other)]
    p = [0.15, 0.18]
    exact = (k[1] / k[0]) ** (1 / (p[1] - p[0]))
    found, sign = cross(one, other, U, (exact / 1e5, exact * 1e5))
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    assert (sign == 1).all()
    assert np.isnan(power_laws(found, U)).all()


def test_e_decides_unless_dropped():
    one, other = plain(400, 400, 0.3, 0.3, e=1.0), plain(1500, 1500, 0.36, 0.36, e=9.0)
    kept, sign = cross(one, other, U, (1e14, 1e30))
    assert np.isnan(kept).all()
    assert (sign == -1).all()
    assert np.isfinite(cross(one, other, U, (1e14, 1e30), keep_e=False)[0]).all()


def test_equal_exponents_scale_with_the_square_of_u():
    """Where alpha = beta and E is dropped, N, D and U times k scale every loss alike: C_crit(k U) = k^2 C_crit(U)."""
    equal = {"A": 400, "alpha": 0.34, "beta": 0.34, "E": 1.7}
    one = constants_array({**equal, "B": 900, "R_D": 20, "R_N": 30})
    other = constants_array({**equal, "B": 1400, "R_D": 400, "R_N": 900})
    found, _ = cross(one, other, U, (1e14, 1e26), keep_e=False)
    np.testing.assert_allclose(found[0] / found[0, 0], (U / U[0]) ** 2, rtol=1e-6)
    slope, _ = power_laws(found, U)[0]
    assert slope == pytest.approx(0.5, abs=1e-6)


def test_the_gap_is_zero_at_the_crossing_and_changes_sign_there():
    found, sign = cross(AR, DIFFUSION, U, (1e14, 1e26))
    assert (sign == 1).all()
    for c, u in zip(found[0], U, strict=True):
        assert abs(gap(AR, DIFFUSION, c, u)) < 1e-8
        assert gap(AR, DIFFUSION, 0.9 * c, u) < 0 < gap(AR, DIFFUSION, 1.1 * c, u)


def test_nobody_is_made_to_overfit():
    """A law that rises again against one that is a little worse and does not: brute force over N and all C' <= C."""
    early = AR.copy()
    early[7:] = 0.02, 0.6, 0.5
    patient = DIFFUSION.copy()
    patient[2] += 0.6
    between = (1e16, 1e24)
    (found,), (sign,) = (x[:, 0] for x in cross(early, patient, U[:1], between))
    flops = np.geomspace(*between, 801)
    n = np.geomspace(1e5, 1e12, 2001)[:, None]
    each = [predict(c, n, flops / 6 / n, U[0]).min(0) for c in (early, patient)]
    assert each[0][-1] > each[0].min() + 0.5
    a, b = (np.minimum.accumulate(loss) for loss in each)
    last = np.flatnonzero(np.diff(np.sign(a - b)))[-1]
    assert flops[last] * 0.999 <= found <= flops[last + 1] * 1.001
    assert sign == 1
    assert each[0][last] > a[last]  # where every FLOP had to be spent, the crossing would lie below


def test_published_power_law():
    law = PowerLaw(0.460, -7.052, unit_tokens=1e6)
    assert law.flops(100e6) == pytest.approx(4.77e19, rel=2e-3)
    assert 1 / law.slope == pytest.approx(2.174, abs=5e-4)
    assert law.unique_tokens(law.flops(3e7)) == pytest.approx(3e7)
    # The same line with U in tokens.
    assert PowerLaw(0.460, -7.052 + 6).flops(100e6) == pytest.approx(law.flops(100e6))


def test_planted_families_cross_where_they_should():
    runs = together(planted(AR, 120, family="causal"), planted(DIFFUSION, 120, family="masked", seed=1))
    laws = fit_laws(runs, FitConfig(), resamples=100)
    kept, dropped = laws.pairs
    assert (kept.keep_e, dropped.keep_e) == (True, False)
    u = np.array([point.unique_tokens for point in kept.crossings])
    exact, _ = cross(AR, DIFFUSION, u, (1e14, 1e26))
    inside = [p.interval[0] <= c <= p.interval[1] for p, c in zip(kept.crossings, exact[0], strict=True)]
    assert np.mean(inside) >= 0.7
    slope = power_laws(exact, u)[0, 0]
    assert kept.slope_interval[0] <= slope <= kept.slope_interval[1]
    assert all(point.better_above == "masked" for point in kept.crossings)
    assert "above C_crit masked" in pair_text(kept)
    assert f"log10 U = {kept.line.slope:.3f} log10 C" in pair_text(kept)
    for interval in ((-90.0, 400.0), (0.1, 1.5), (math.nan, math.nan)):
        unknown = pair_text(replace(kept, slope_interval=interval))
        assert "no power law of U is identified" in unknown
        assert "log10 U" not in unknown


def test_any_number_of_families_and_none_that_cross():
    best = {name: AR * np.array([1, 1, e, *[1] * 7]) for name, e in (("a", 1.0), ("b", 1.1), ("c", 1.2))}
    runs = planted(AR, 40)
    pairs = compare_pairs(runs, best, {name: c[None].repeat(3, 0) for name, c in best.items()})
    assert [pair.families for pair in pairs[::2]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert all(math.isnan(point.flops) for point in pairs[0].crossings)
    assert "a has the lower loss throughout" in pair_text(pairs[0])
