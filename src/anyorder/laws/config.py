"""How a law is fitted, and what runs it takes."""

from dataclasses import dataclass, fields

import numpy as np

from anyorder.errors import ConfigError, UserError
from anyorder.laws.law import CONSTANTS, NEUTRAL, law_named
from anyorder.laws.runs import Runs
from anyorder.laws.solve import BOUNDS
from anyorder.settings import Settings, setting

LARGEST_LOSS = 1e6
"""No loss, and so no constant E, is larger than this."""
STEP_ONE = ("A", "B", "E", "alpha", "beta")
"""Runs of one epoch tell these constants."""
SPARE_RUNS = 3
"""A fit needs this many runs more than it has constants to fit."""


@dataclass
class Fixed(Settings):
    """Constants that are held; None is fitted."""

    A: float | None = setting(None, "Numerator of the error of few parameters.")
    B: float | None = setting(None, "Numerator of the error of few tokens.")
    E: float | None = setting(None, "The loss that no compute takes away.")
    alpha: float | None = setting(None, "Exponent of the parameters.")
    beta: float | None = setting(None, "Exponent of the tokens.")
    R_D: float | None = setting(None, "How fast repeated tokens lose their worth.")
    R_N: float | None = setting(None, "How fast excess parameters lose their worth.")
    O: float | None = setting(None, "Factor of overfitting; of law=overfitting, as the next two.")  # noqa: E741 - the constant's name
    gamma: float | None = setting(None, "Exponent of overfitting in the parameters.")
    kappa: float | None = setting(None, "Exponent of overfitting in the epochs.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in self.given().items():
            low, high = BOUNDS.get(name, (0.0, LARGEST_LOSS))
            if not (value > 0 and low <= value <= high):
                raise ConfigError(name, value, f"a finite number above 0, from {low:g} to {high:g}")

    def given(self) -> dict[str, float]:
        """Return the held constants by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass
class FitConfig(Settings):
    """How to fit.

    In the first of two steps R_N takes part, too, and is fitted anew in the second: parameters beyond N_opt(U)
    saturate at one epoch.
    """

    law: str = setting("data_constrained", "chinchilla, data_decay, data_constrained or overfitting.")
    fixed: Fixed = setting(Fixed, "Constants to hold, in every family.")
    tied: bool = setting(False, "alpha = beta.")
    shared_e: bool = setting(False, "One E for all families.")
    two_step: bool = setting(
        False, "A, B, E, alpha, beta from runs of one epoch alone, then the others from all, as in the paper."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
        varied = [("params", mine.params, {"A", "alpha", "R_N"}), ("tokens", mine.tokens, {"B", "beta", "R_D"})]
        varied.append(("unique_tokens", mine.unique_tokens, {"R_D", "R_N", "O", "gamma", "kappa"}))
        for column, values, users in varied:
            if users & set(names) and len(np.unique(values)) < 2:
                allowed = f"at least two values, to fit {', '.join(n for n in names if n in users)}"
                raise UserError(f"{column}{of}", f"{values[0]:g} in every run", allowed)
