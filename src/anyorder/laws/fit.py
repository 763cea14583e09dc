"""Fits of a law to runs: joint or in the two steps of the paper, from many starts, over any set of families."""

import itertools
from dataclasses import dataclass

import numpy as np

from anyorder.laws.config import STEP_ONE, FitConfig, check
from anyorder.laws.law import CONSTANTS, Array, Constant, Law, constants_array, effective_tokens, law_named, predict
from anyorder.laws.runs import Runs
from anyorder.laws.solve import Problem, Solution, huber, minimize

FINALISTS = 10
"""This many starts are followed to the end."""
GRID = {
    "alpha": (0.15, 0.35, 0.7),
    "beta": (0.15, 0.35, 0.7),
    "R_D": (0.3, 3.0, 30.0, 300.0),
    "R_N": (0.3, 3.0, 300.0),
    "gamma": (0.5, 1.5),
    "kappa": (0.5, 1.0),
}


@dataclass(frozen=True)
class Stage:
    """One minimization: its problem, the constants held in it, and where it ended.

    Attributes:
        rows: indices of the table's runs that take part; ``problem.runs`` are those.
    """

    problem: Problem
    rows: np.ndarray
    held: Array
    solution: Solution

    @property
    def x(self) -> Array:
        """The best logarithms, (variables,)."""
        return self.solution.x[self.solution.best]

    def constants(self) -> Array:
        """Return the best constants, (families, 10)."""
        return self.problem.constants(self.x[None], self.held)[0]


@dataclass(frozen=True)
class Fit:
    """A law fitted to one family, or to several that share E.

    Attributes:
        runs: what it was fitted to, sorted by family.
        config: how.
        constants: (families, 10).
        stages: one, or the two steps; none where everything was held.
    """

    runs: Runs
    config: FitConfig
    constants: Array
    stages: tuple[Stage, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """The names of the families, in the order of ``constants``."""
        return self.runs.families

    @property
    def law(self) -> Law:
        """The law."""
        return law_named(self.config.law)

    def of(self, family: str) -> Array:
        """Return the constants of a family, (10,)."""
        return self.constants[self.families.index(family)]

    def predicted(self, constants: Array | None = None) -> Array:
        """Return the loss of every run, (runs,), by these constants (families, 10) or the fitted ones."""
        return predicted(self.runs, self.constants if constants is None else constants)

    def objective(self, family: str) -> float:
        """Return the summed Huber loss of a family's runs."""
        return objective(self.runs.of(family), self.of(family))

    def r2(self, family: str, decay: bool = True) -> float:
        """Return R^2 on raw losses; without ``decay``, that of the same constants with every repetition fresh."""
        constants = self.of(family)
        if not decay:
            constants = constants_array({name: float(constants[Constant[name]]) for name in STEP_ONE})
        return r_squared(self.runs.of(family), constants)


def predicted(runs: Runs, constants: Array) -> Array:
    """Return the loss of every run, (runs,), constants (families, 10) in the order of ``runs.families``."""
    each = np.array([runs.families.index(name) for name in runs.factorization])
    return predict(constants[each], runs.params, runs.tokens, runs.unique_tokens)


def objective(runs: Runs, constants: Array) -> float:
    """Return the summed Huber loss of ln L of one family's runs."""
    loss = predict(constants, runs.params, runs.tokens, runs.unique_tokens)
    return float(huber(np.log(loss) - np.log(runs.loss)).sum())


def r_squared(runs: Runs, constants: Array) -> float:
    """Return 1 - SS_residual / SS_total of the raw losses of one family's runs; nan where all are equal."""
    error = predict(constants, runs.params, runs.tokens, runs.unique_tokens) - runs.loss
    total = float(((runs.loss - runs.loss.mean()) ** 2).sum())
    return 1 - float((error**2).sum()) / total if total > 0 else float("nan")


def fit(runs: Runs, config: FitConfig | None = None) -> list[Fit]:
    """Fit a law to every family of the runs.

    Returns:
        A fit for each family, or one for all where they share E. It is the global optimum as far as the starts find it:
        a grid over exponents and decays, with A, B, E by linear least squares; the best are followed to the end.

    Raises:
        UserError: the runs cannot tell the constants.
    """
    config = config or FitConfig()
    check(runs, config)
    order = np.argsort([runs.families.index(name) for name in runs.factorization], kind="stable")
    runs = runs.where(order)
    return [fit_group(group, config) for group in ([runs] if config.shared_e else map(runs.of, runs.families))]


def fit_group(runs: Runs, config: FitConfig) -> Fit:
    """Fit families that share E, or a single one; runs sorted by family."""
    given = constants_array({**dict.fromkeys(CONSTANTS, 1.0), **config.held()})
    constants = np.tile(given, (len(runs.families), 1))
    stages: list[Stage] = []
    for rows, names in steps(runs, config):
        held = constants.copy()
        if config.two_step and names == config.first_step():  # repetition has no part in it
            absent = [i for i, name in enumerate(CONSTANTS) if name not in {*STEP_ONE, *names, *config.held()}]
            held[:, absent] = constants_array(dict.fromkeys(STEP_ONE, 1.0))[absent]
        stage = solve(runs, rows, names, config, held)
        fitted = [Constant[name] for name in names]
        constants[:, fitted] = stage.constants()[:, fitted]
        stages.append(stage)
    return Fit(runs, config, constants, tuple(stages))


def steps(runs: Runs, config: FitConfig) -> list[tuple[np.ndarray, tuple[str, ...]]]:
    """Return which rows each step fits which constants to."""
    names, everything = config.fitted(), np.arange(len(runs))
    if config.two_step:
        second = tuple(name for name in names if name not in STEP_ONE)
        planned = [(np.flatnonzero(runs.single_epoch), config.first_step()), (everything, second)]
    else:
        planned = [(everything, names)]
    return [step for step in planned if step[1]]


def solve(runs: Runs, rows: np.ndarray, names: tuple[str, ...], config: FitConfig, held: Array) -> Stage:
    """Fit some constants to some runs, the others held at (families, 10)."""
    slots = np.full((len(runs.families), len(CONSTANTS)), -1)
    count = 0
    for family in range(len(runs.families)):
        for name in names:
            index = Constant[name]
            if name == "E" and family > 0:
                slots[family, index] = slots[0, index]
            elif name == "beta" and config.tied:
                slots[family, index] = slots[family, Constant.alpha]
            else:
                slots[family, index] = count
                count += 1
    problem = Problem(runs.where(rows), slots)
    start = problem.variables_of(starts(problem.runs, names, held, config))
    short = minimize(problem, start, held, iterations=25)
    finalists = np.argsort(short.objective)[:FINALISTS]
    return Stage(problem, rows, held, minimize(problem, short.x[finalists], held, iterations=1000))


def starts(runs: Runs, names: tuple[str, ...], held: Array, config: FitConfig) -> Array:
    """Return constants to start from, (starts, families, 10)."""
    dials = [name for name in GRID if name in names and not (name == "beta" and config.tied)]
    if not set(names) & set(STEP_ONE):  # few constants are left, so the grid can be fine
        grids = [np.geomspace(0.1, 1e4, 8).tolist() if name in ("R_D", "R_N") else GRID[name] for name in dials]
    else:
        grids = [GRID[name] for name in dials]
    points = list(itertools.product(*grids))
    found = np.tile(held, (len(points), 1, 1))
    for column, name in enumerate(dials):
        found[:, :, Constant[name]] = np.array([point[column] for point in points])[:, None]
    if config.tied and "alpha" in names:
        found[:, :, Constant.beta] = found[:, :, Constant.alpha]
    for family, name in enumerate(runs.families):
        linear(runs.of(name), names, found[:, family])
    return found


def linear(runs: Runs, names: tuple[str, ...], constants: Array) -> None:
    """Fill in A, B, E (starts, 10) by least squares of relative errors, and O by a share of the loss.

    Parameters count in full here: how U_N binds depends on A and B themselves.
    """
    places = (Constant.alpha, Constant.beta, Constant.R_D)
    alpha, beta, r_d = (constants[:, place, None] for place in places)
    tokens = effective_tokens(runs.tokens, runs.unique_tokens, r_d)
    columns = np.stack([runs.params**-alpha, tokens**-beta, np.ones_like(tokens)], axis=-1) / runs.loss[:, None]
    linear_ones = (Constant.A, Constant.B, Constant.E)  # the columns, in their order
    wanted = [place for place in linear_ones if place.name in names]
    if wanted:
        others = [place for place in linear_ones if place not in wanted]
        target = 1 - (columns[..., others] * constants[:, None, others]).sum(-1)
        scale = columns[..., wanted].max(1)
        part = columns[..., wanted] / scale[:, None]
        matrix = part.swapaxes(1, 2) @ part + 1e-9 * len(runs) * np.eye(len(wanted))
        solved = np.linalg.solve(matrix, (part.swapaxes(1, 2) @ target[..., None]))[..., 0]
        # A share of 2 % of the loss where least squares finds none.
        constants[:, wanted] = np.maximum(solved, 0.02) / scale
    if "O" in names:
        repeated = ~runs.single_epoch
        pressure: Array = np.ones((len(constants), 1))
        if repeated.any():
            some = runs.where(repeated)
            pressure = (some.params / some.unique_tokens) ** constants[:, Constant.gamma, None]
            pressure = pressure * (some.epochs - 1) ** constants[:, Constant.kappa, None]
        constants[:, Constant.O] = 0.02 * np.median(runs.loss) / np.quantile(pressure, 0.75, axis=1)
