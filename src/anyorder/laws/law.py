"""Laws of the loss over parameters, tokens and unique tokens, all one formula with constants pinned.

``L(N, D, U) = E + A / N'^alpha + B / D'^beta + O (N / U)^gamma (D / U - 1)^kappa``, in which repeated tokens and excess
parameters count less and less (Muennighoff et al., Scaling Data-Constrained Language Models, 2023, arXiv 2305.16264)::

    D' = U + U R_D (1 - exp(-(D / U - 1) / R_D))
    N' = U_N + U_N R_N (1 - exp(-(N / U_N - 1) / R_N)),    U_N = min(N, N_opt(U))

``N_opt(U)`` is the number of parameters for which U tokens are compute-optimal, under ``C = 6 N D``. R_D and
R_N are e-folding constants: after R_D repetitions the repeated data have given 63 % of all they will. N
counts embeddings, U the unique tokens that were seen, so it is at most D; logarithms are natural and losses
in nats.

The last term is our own extension. The law of the paper falls in D for ever, while validation losses rise
again when a network has memorized its data. Overfitting needs repetition (nothing at one epoch) and capacity
per unique token (N / U, what the classical p / n of excess risk counts), so the excess is a power of each;
the powers are left to the runs. It has to earn its three constants on held-out runs:
:mod:`anyorder.laws.select`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anyorder.errors import ConfigError, did_you_mean

Array = NDArray[np.float64]


class Constant(IntEnum):
    """A constant of a law, all positive; its number is its place in every array of constants.

    >>> Constant["beta"], np.arange(10)[Constant.R_D]
    (<Constant.beta: 4>, np.int64(5))
    """

    A = 0
    B = 1
    E = 2
    alpha = 3
    beta = 4
    R_D = 5
    R_N = 6
    O = 7  # noqa: E741 - the constant's name
    gamma = 8
    kappa = 9


CONSTANTS = tuple(Constant.__members__)
"""The names of all constants, in the order of every array of them."""
FLOPS_PER_PARAM_TOKEN = 6.0
"""Training costs C = 6 N D for every family."""
LOG_BOUND = 100.0
"""The logarithm of N_opt is kept between minus this and this."""
NEUTRAL = {"R_D": np.inf, "R_N": np.inf, "O": 0.0, "gamma": 1.0, "kappa": 1.0}
"""At these values a constant does nothing."""
AUTO = "auto"
"""This name stands for the law that held-out runs choose."""


@dataclass(frozen=True)
class Law:
    """A choice of which constants are fitted; the others are pinned to their neutral values."""

    name: str
    free: tuple[str, ...]
    summary: str


LAWS = {
    law.name: law
    for law in (
        Law("chinchilla", CONSTANTS[:5], "repeated tokens count like fresh ones: no decay"),
        Law("data_decay", CONSTANTS[:6], "repeated tokens decay, parameters do not"),
        Law("data_constrained", CONSTANTS[:7], "repeated tokens and excess parameters decay (arXiv 2305.16264)"),
        Law("overfitting", CONSTANTS, "data_constrained, and a loss that rises with epochs and N / U"),
    )
}


def law_named(name: str) -> Law:
    """Return the law of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in LAWS:
        names = [*LAWS, AUTO]
        raise ConfigError("law", name, ", ".join(names) + did_you_mean(name, names))
    return LAWS[name]


def constants_array(constants: Mapping[str, float]) -> Array:
    """Return constants in the order of ``CONSTANTS``, (10,); those left out are neutral.

    >>> constants_array({"A": 1, "B": 2, "E": 3, "alpha": 0.4, "beta": 0.5}).tolist()
    [1.0, 2.0, 3.0, 0.4, 0.5, inf, inf, 0.0, 1.0, 1.0]
    """
    return np.array([{**NEUTRAL, **constants}[name] for name in CONSTANTS], dtype=float)


def saturated(excess: Array, scale: Array) -> Array:
    """Return ``scale (1 - exp(-excess / scale))``, which is ``excess`` where the scale is infinite."""
    bounded = np.where(np.isfinite(scale), scale, 1.0)
    return np.where(np.isfinite(scale), -bounded * np.expm1(-excess / bounded), excess)


def effective_tokens(tokens: ArrayLike, unique_tokens: ArrayLike, r_d: ArrayLike) -> Array:
    """Return D', the fresh tokens that D tokens of which U are unique are worth.

    >>> round(float(effective_tokens(4e8, 1e8, 15.3878)) / 4e8, 3)
    0.931
    """
    d = np.asarray(tokens, dtype=float)
    u = np.minimum(d, unique_tokens)
    return u + u * saturated(d / u - 1, np.asarray(r_d, dtype=float))


def optimal_params(unique_tokens: ArrayLike, constants: ArrayLike) -> Array:
    """Return N_opt(U), the parameters for which U tokens are compute-optimal; constants (..., 10)."""
    return np.exp(_log_optimal(np.log(np.asarray(unique_tokens, dtype=float)), np.asarray(constants, float)))


def exponents(c: Array) -> tuple[Array, Array, Array]:
    """Return alpha, beta and ln G of constants (..., 10), where G = (alpha A / (beta B))^(1 / (alpha + beta)).

    G sets the sizes that are compute-optimal without repetition: N = G (C / 6)^(beta / (alpha + beta)).
    """
    alpha, beta = c[..., Constant.alpha], c[..., Constant.beta]
    log_g = (np.log(alpha * c[..., Constant.A]) - np.log(beta * c[..., Constant.B])) / (alpha + beta)
    return alpha, beta, log_g


def _log_optimal(log_u: Array, c: Array) -> Array:
    """Return ln N_opt(U) = ln G + (beta / alpha) ln(G U), with G as in ``exponents``.

    Within bounds that no number of parameters comes near to, as a fit passes by constants that would overflow.
    """
    alpha, beta, log_g = exponents(c)
    return np.clip(log_g + beta / alpha * (log_g + log_u), -LOG_BOUND, LOG_BOUND)


def effective_params(params: ArrayLike, unique_tokens: ArrayLike, constants: ArrayLike) -> Array:
    """Return N', what N parameters are worth with U unique tokens; constants (..., 10)."""
    c = np.asarray(constants, dtype=float)
    n = np.asarray(params, dtype=float)
    used = np.minimum(n, optimal_params(unique_tokens, c))
    return used + used * saturated(n / used - 1, c[..., Constant.R_N])


def predict(constants: ArrayLike, params: ArrayLike, tokens: ArrayLike, unique_tokens: ArrayLike) -> Array:
    """Return the loss, nats; all arguments broadcast, constants (..., 10) without their last axis.

    >>> c = constants_array({"A": 520.82, "B": 1487.72, "E": 1.8691, "alpha": 0.35266, "beta": 0.35266, "R_D": 15.39,
    ...                      "R_N": 5.31})
    >>> round(float(predict(c, 6.34e9, 242e9, 25e9)), 3)
    2.226
    """
    c = np.asarray(constants, dtype=float)
    d = np.asarray(tokens, dtype=float)
    u = np.minimum(d, unique_tokens)
    a, b, e, alpha, beta, r_d, _, o, gamma, kappa = np.moveaxis(c, -1, 0)
    model = a * effective_params(params, u, c) ** -alpha
    data = b * effective_tokens(d, u, r_d) ** -beta
    excess = _excess(np.asarray(params, dtype=float) / u, d / u - 1, o, gamma, kappa)
    return e + model + data + excess


def log_loss(
    constants: Array, params: Array, tokens: Array, unique_tokens: Array, wanted: tuple[int, ...] = ()
) -> tuple[Array, dict[int, Array]]:
    """Return ln L and its derivatives by the logarithms of constants.

    Args:
        constants: (sets, 10).
        params: (runs,); so are ``tokens`` and ``unique_tokens``.
        wanted: indices of the constants to differentiate by.

    Returns:
        ln L (sets, runs), and by index d ln L / d ln constant (sets, runs). At the kink N = N_opt(U) it is the
        derivative from below.
    """
    a, b, e, alpha, beta, r_d, r_n, o, gamma, kappa = (constants[:, i, None] for i in Constant)
    u = np.minimum(tokens, unique_tokens)
    repeats = tokens / u - 1
    log_u = np.log(u)
    log_n_opt = _log_optimal(log_u, constants[:, None])
    used = np.minimum(params, np.exp(log_n_opt))
    surplus = params / used - 1
    n_eff = used + used * saturated(surplus, r_n)
    d_eff = u + u * saturated(repeats, r_d)
    log_n, log_d = np.log(n_eff), np.log(d_eff)
    model, data = a * np.exp(-alpha * log_n), b * np.exp(-beta * log_d)
    excess = _excess(params / u, repeats, o, gamma, kappa)
    loss = e + model + data + excess
    if not wanted:
        return np.log(loss), {}
    ratio = beta / alpha
    log_g = (log_n_opt - ratio * log_u) / (1 + ratio)
    # How the loss follows U_N: through N' alone, and only where the data bind.
    left = np.exp(-surplus / r_n)
    by_used = np.where(
        surplus > 0, -alpha * model * used / n_eff * (1 + saturated(surplus, r_n) - left * params / used), 0.0
    )
    used_by_alpha = (1 + ratio) * (1 - alpha * log_g) / (alpha + beta) - ratio * (log_g + log_u)
    used_by_beta = (1 + ratio) * (-1 - beta * log_g) / (alpha + beta) + ratio * (log_g + log_u)
    derivatives: dict[Constant, Callable[[], Array]] = {
        Constant.A: lambda: model + by_used / alpha,
        Constant.B: lambda: data - by_used / alpha,
        Constant.E: lambda: np.broadcast_to(e, loss.shape),
        Constant.alpha: lambda: -alpha * log_n * model + by_used * used_by_alpha,
        Constant.beta: lambda: -beta * log_d * data + by_used * used_by_beta,
        Constant.R_D: lambda: -beta * data * u / d_eff * _by_log_scale(repeats, r_d),
        Constant.R_N: lambda: -alpha * model * used / n_eff * _by_log_scale(surplus, r_n),
        Constant.O: lambda: excess,
        Constant.gamma: lambda: gamma * np.log(params / u) * excess,
        Constant.kappa: lambda: kappa * np.log(np.maximum(repeats, 1e-300)) * excess,
    }
    return np.log(loss), {index: derivatives[Constant(index)]() / loss for index in wanted}


def _excess(per_token: Array, repeats: Array, o: Array, gamma: Array, kappa: Array) -> Array:
    """Return the overfitting term; most laws have none, and powers are what a law's evaluation costs."""
    return o * per_token**gamma * repeats**kappa if o.any() else np.zeros(1)


def _by_log_scale(excess: Array, scale: Array) -> Array:
    """Return the derivative of ``saturated`` by the logarithm of the scale."""
    x = excess / scale
    # 1 - e^-x - x e^-x loses all digits for small x, where it is x^2 / 2 - x^3 / 3.
    series = scale * x**2 * (0.5 - x / 3)
    return np.where(x < 1e-4, series, scale * (-np.expm1(-x) - x * np.exp(-x)))
