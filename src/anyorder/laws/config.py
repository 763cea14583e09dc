"""How a law is fitted, and what runs it takes."""

from dataclasses import dataclass, field, fields

import numpy as np

from anyorder.errors import ConfigError, UserError
from anyorder.laws.law import CONSTANTS, NEUTRAL, law_named
from anyorder.laws.runs import Runs
from anyorder.laws.solve import BOUNDS

LARGEST_LOSS = 1e6
"""No loss, and so no constant E, is larger than this."""
STEP_ONE = ("A", "B", "E", "alpha", "beta")
"""Runs of one epoch tell these constants."""
SPARE_RUNS = 3
"""A fit needs this many runs more than it has constants to fit."""


@dataclass
class Fixed:
    """Constants that are held; None is fitted."""

    A: float | None = None
    B: float | None = None
    E: float | None = None
    alpha: float | None = None
    beta: float | None = None
    R_D: float | None = None
    R_N: float | None = None
    O: float | None = None  # noqa: E741 - the constant's name
    gamma: float | None = None
    kappa: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            low, high = BOUNDS.get(name, (0.0, LARGEST_LOSS))
            if not (value > 0 and low <= value <= high):
                allowed = f"a finite number above 0, from {low:g} to {high:g}"
                raise ConfigError(f"fixed.{name}", value, allowed)

    def given(self) -> dict[str, float]:
        """Return the held constants by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass
class FitConfig:
    """How to fit.

    Attributes:
        law: name of a law.
        fixed: constants to hold, in every family.
        tied: alpha = beta.
        shared_e: one E for all families.
        two_step: A, B, E, alpha, beta from the runs of one epoch alone, then the others from all runs. R_N takes part
            in the first step too, and is fitted anew in the second: parameters beyond N_opt(U) saturate at one epoch.
    """

    law: str = "data_constrained"
    fixed: Fixed = field(default_factory=Fixed)
    tied: bool = False
    shared_e: bool = False
    two_step: bool = False

    def __post_init__(self) -> None:
        law = law_named(self.law)
        unknown = [name for name in self.fixed.given() if name not in law.free]
        if unknown:
            allowed = f"constants of law={self.law}: {', '.join(law.free)}"
            raise ConfigError(f"fixed.{unknown[0]}", self.fixed.given()[unknown[0]], allowed)
        if self.tied and {"alpha", "beta"} <= set(self.fixed.given()) and self.fixed.alpha != self.fixed.beta:
            raise ConfigError("fixed.beta", self.fixed.beta, f"{self.fixed.alpha}, as tied=true")

    def held(self) -> dict[str, float]:
        """Return what is not fitted: the given constants, and those that the law does not have."""
        held = {name: NEUTRAL[name] for name in CONSTANTS if name not in law_named(self.law).free}
        held |= self.fixed.given()
        if self.tied and (held.keys() & {"alpha", "beta"}):
            held["alpha"] = held["beta"] = held.get("alpha", held.get("beta", 0.0))
        return held

    def fitted(self) -> tuple[str, ...]:
        """Return the names of the constants that are fitted."""
        return tuple(name for name in CONSTANTS if name not in self.held())

    def first_step(self) -> tuple[str, ...]:
        """Return what is fitted to the runs of one epoch in the first of two steps; nothing where all of it is held."""
        if not set(STEP_ONE) & set(self.fitted()):
            return ()
        return tuple(name for name in self.fitted() if name in (*STEP_ONE, "R_N"))


def check(runs: Runs, config: FitConfig) -> None:
    """Refuse runs that cannot tell the constants, one line each.

    Raises:
        UserError: too few runs, or too few values of a column.
    """
    names = config.fitted()
    if not len(runs):
        raise UserError("runs", "a table without rows", "one run a row")
    for family in runs.families:
        mine = runs.of(family)
        of = "" if len(runs.families) == 1 else f" of {family}"
        needs = [(len(mine), names, f"runs{of}")]
        if config.two_step:
            what = f"runs of one epoch{of}, as two_step=true"
            needs.append((int(mine.single_epoch.sum()), config.first_step(), what))
        for count, fitted, what in needs:
            if fitted and count < len(fitted) + SPARE_RUNS:
                others = "" if len(runs.families) == 1 else "; families=[...] names those to fit"
                allowed = f"at least {len(fitted) + SPARE_RUNS}, to fit {', '.join(fitted)}{others}"
                raise UserError(what, count, allowed)
        if len(np.unique(mine.loss)) < 2:
            raise UserError(f"losses{of}", f"{mine.loss[0]:g} in every run", "at least two values")
        varied = [
            ("params", mine.params, {"A", "alpha", "R_N"}),
            ("tokens", mine.tokens, {"B", "beta", "R_D"}),
        ]
        varied.append(("unique_tokens", mine.unique_tokens, {"R_D", "R_N", "O", "gamma", "kappa"}))
        for column, values, users in varied:
            if users & set(names) and len(np.unique(values)) < 2:
                allowed = f"at least two values, to fit {', '.join(n for n in names if n in users)}"
                raise UserError(f"{column}{of}", f"{values[0]:g} in every run", allowed)
