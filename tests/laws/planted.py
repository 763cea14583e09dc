"""Runs drawn from a known law, on the grid of arXiv 2507.15857, and the published runs of arXiv 2305.16264."""

from pathlib import Path

import numpy as np

from anyorder.laws.law import constants_array, predict
from anyorder.laws.runs import make_runs

# 182 runs of huggingface/datablations (utils/parametric_fit.ipynb, Apache-2.0): name, N, D, U, val_loss.
MUENNIGHOFF = Path(__file__).parent / "muennighoff_182_runs.csv"
STEP_ONE = {
    "A": np.exp(6.255414),
    "B": np.exp(7.3049974),
    "E": np.exp(0.6254804),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
PUBLISHED = constants_array({**STEP_ONE, "R_D": 15.387756, "R_N": 5.309743})
AR = constants_array({"A": 400, "B": 1500, "E": 1.7, "alpha": 0.34, "beta": 0.36, "R_D": 31, "R_N": 55})
DIFFUSION = constants_array({"A": 400, "B": 2500, "E": 1.7, "alpha": 0.34, "beta": 0.36, "R_D": 494, "R_N": 1266})


def planted(constants, runs=300, noise=0.005, seed=0, epochs=800, family="all"):
    """U 25M-100M, 1 to ``epochs`` epochs (a third of the runs has one), 7M-2.5B parameters."""
    random = np.random.default_rng(seed)
    n = np.exp(random.uniform(np.log(7e6), np.log(2.5e9), runs))
    u = np.exp(random.uniform(np.log(25e6), np.log(100e6), runs))
    repeated = np.where(random.uniform(size=runs) < 1 / 3, 0.0, random.uniform(0, np.log(epochs), runs))
    d = u * np.exp(repeated)
    d[repeated == 0] = u[repeated == 0]
    loss = predict(constants, n, d, u) * np.exp(noise * random.standard_normal(runs))
    return make_runs(n, d, u, loss, [family] * runs)


def together(*tables):
    """Several tables as one."""
    columns = [np.concatenate([getattr(t, name) for t in tables]) for name in ("params", "tokens", "unique_tokens")]
    loss = np.concatenate([t.loss for t in tables])
    return make_runs(*columns, loss, [name for t in tables for name in t.factorization])
