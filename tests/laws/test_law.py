"""The law's published values, its limits and its derivatives."""

import numpy as np
import pytest

from anyorder.laws.law import (
    CONSTANTS,
    constants_array,
    effective_params,
    effective_tokens,
    log_loss,
    optimal_params,
    predict,
)
from tests.laws.planted import AR, PUBLISHED, planted


def test_published_losses():
    assert float(predict(PUBLISHED, 6.34e9, 242e9, 25e9)) == pytest.approx(2.2256440889984477, abs=1e-9)
    assert float(predict(PUBLISHED, 8.67e9, 178e9, 25e9)) == pytest.approx(2.2269634075087867, abs=1e-9)


def test_published_optimal_params():
    found = optimal_params([100e6, 400e6, 1.5e9], PUBLISHED)
    np.testing.assert_allclose(found, [5_098_651.77, 20_394_607.06, 76_479_776.48], rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("r_d", "epochs", "worth"), [(15.3878, 4, 0.931), (31.19, 4, 0.965), (493.89, 100, 0.907), (493.89, 500, 0.630)]
)
def test_published_worth_of_repeated_tokens(r_d, epochs, worth):
    assert float(effective_tokens(epochs * 1e8, 1e8, r_d)) / (epochs * 1e8) == pytest.approx(worth, abs=5e-4)


def table():
    runs = planted(AR, 60, seed=3)
    return runs.params, runs.tokens, runs.unique_tokens


def test_no_decay_is_the_limit_of_infinite_constants():
    n, d, u = table()
    plain = constants_array(dict(zip(CONSTANTS[:5], AR[:5], strict=True)))
    slow = AR.copy()
    slow[5:7] = 1e13
    np.testing.assert_allclose(predict(slow, n, d, u), predict(plain, n, d, u), rtol=1e-9)
    np.testing.assert_allclose(predict(plain, n, d, u), AR[2] + AR[0] * n ** -AR[3] + AR[1] * d ** -AR[4], rtol=1e-14)


def test_no_worth_is_the_limit_of_zero():
    _, d, u = table()
    np.testing.assert_allclose(effective_tokens(d, u, 1e-9), u, rtol=1e-6)


def test_one_epoch_is_chinchilla_up_to_the_optimal_params_and_has_no_overfitting():
    u = np.geomspace(1e6, 1e11, 20)
    n = 0.999 * optimal_params(u, AR)
    overfitting = AR.copy()
    overfitting[7:] = 5.0, 1.2, 0.7
    np.testing.assert_allclose(
        predict(overfitting, n, u, u), AR[2] + AR[0] * n ** -AR[3] + AR[1] * u ** -AR[4], rtol=1e-13
    )
    assert (effective_params(10 * n, u, AR) < 10 * n).all()


def test_unseen_tokens_do_not_count():
    assert predict(AR, 1e8, 1e8, 5e9) == predict(AR, 1e8, 1e8, 1e8)


def test_the_law_falls_in_data_and_the_extension_bends_upward():
    epochs = np.geomspace(1, 1000, 50)
    assert (np.diff(predict(AR, 1e9, 1e8 * epochs, 1e8)) < 0).all()
    overfitting = AR.copy()
    overfitting[7:] = 0.02, 0.7, 0.7
    steps = np.diff(predict(overfitting, 1e9, 1e8 * epochs, 1e8))
    assert (steps[:5] < 0).all()
    assert (steps[-5:] > 0).all()


@pytest.mark.parametrize("r_n", [1e-3, 34.0, 1e12])
def test_constants_that_a_fit_passes_by_overflow_nothing(r_n):
    # N_opt(U) underflows or overflows: a fit to runs that N hardly matters for goes there.
    params, tokens, unique = np.array([1e4, 3e6]), np.array([1e3, 1e8]), np.array([1e3, 1e5])
    for a, b in ((1e-3, 1e6), (1e6, 1e-3)):
        constants = np.array([[a, b, 0.1, 0.01, 2.0, 100.0, r_n, 1e-4, 1.0, 1.0]])
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            loss, derivatives = log_loss(constants, params, tokens, unique, tuple(range(10)))
        assert np.isfinite(loss).all()
        assert all(np.isfinite(found).all() for found in derivatives.values())


def test_derivatives():
    n, d, u = table()
    constants = np.stack([AR, PUBLISHED])
    constants[:, 7:] = [[0.01, 0.7, 0.9], [0.02, 1.2, 0.5]]
    _, slopes = log_loss(constants, n, d, u, tuple(range(10)))
    for index in range(10):
        step = np.ones(10)
        step[index] = np.exp(1e-6)
        up, down = (log_loss(c, n, d, u)[0] for c in (constants * step, constants / step))
        np.testing.assert_allclose(slopes[index], (up - down) / 2e-6, atol=2e-8, err_msg=CONSTANTS[index])
