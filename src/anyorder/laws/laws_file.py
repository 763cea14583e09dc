"""``laws.json``: what ``anyorder fit`` found, for other programs and for ``anyorder advise``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyorder.errors import ConfigError, UserError, check_number
from anyorder.files import finite, read_json, write_json
from anyorder.laws.config import LARGEST_LOSS, FitConfig
from anyorder.laws.facts import Facts
from anyorder.laws.intervals import percentiles
from anyorder.laws.law import CONSTANTS, NEUTRAL, Constant, constants_array, law_named
from anyorder.laws.laws import RANGES, FamilyLaw, FittedLaw, FittedLaws, Laws
from anyorder.laws.pairs import Pair
from anyorder.laws.solve import BOUNDS
from anyorder.settings import checked

LAWS_FILE = "laws.json"
PUBLISHED = CONSTANTS[:7]
"""These constants are always written, those of the overfitting term only where the law has them."""


@dataclass(frozen=True)
class Sentences:
    """What ``laws.json`` says in words beside its numbers; ``anyorder.reports.laws.sentences`` makes them.

    Attributes:
        notes: by family, what its runs cannot tell.
        pairs: one text for each pair.
    """

    notes: Mapping[str, list[str]]
    pairs: Sequence[str]


def to_dict(laws: FittedLaws, said: Sentences) -> dict[str, Any]:
    """Return the content of ``laws.json``; what is infinite (a decay that the law does not have) or unknown is null."""
    config = laws.config
    written = {family: _law_dict(law, config, said.notes[family]) for family, law in laws.families.items()}
    pairs = [_pair_dict(pair, text) for pair, text in zip(laws.pairs, said.pairs, strict=True)]
    critical = {"units": {"C": "FLOPs, 6 N D", "U": "tokens"}, "pairs": pairs}
    content = {
        "law": config.law,
        "settings": {"tied": config.tied, "shared_e": config.shared_e, "two_step": config.two_step},
        "runs": asdict(laws.facts),
        "laws": written,
        "critical": critical,
        "held_out": {score.law: {"loss": score.loss, "median": score.median} for score in laws.held_out},
    }
    plain: dict[str, Any] = finite(content)
    return plain


def _law_dict(law: FittedLaw, config: FitConfig, notes: list[str]) -> dict[str, Any]:
    shown = [name for name in CONSTANTS if name in PUBLISHED or name in law.intervals or name in config.fixed.given()]
    values = dict(zip(CONSTANTS, law.constants.tolist(), strict=True))
    fixed = [name for name in shown if name not in law.intervals and math.isfinite(values[name])]
    columns = {name: Constant[name] for name in law.intervals}
    return {
        "constants": {name: values[name] for name in shown},
        "intervals": {
            **{name: [i.low, i.high] for name, i in law.intervals.items()},
            **{name: [values[name], values[name]] for name in fixed},
        },
        "objective": law.objective,
        "r2": law.r2,
        "r2_no_decay": law.r2_no_decay,
        "identified": {name: interval.identified for name, interval in law.intervals.items()},
        "notes": notes,
        "fixed": fixed,
        "runs": law.runs,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "bootstrap": {
            "intervals": {name: percentiles(law.samples[:, i]).tolist() for name, i in columns.items()},
            "samples": {name: [float(f"{v:.6g}") for v in law.samples[:, i]] for name, i in columns.items()},
        },
    }


def _pair_dict(pair: Pair, text: str) -> dict[str, Any]:
    line = None
    if pair.line is not None:
        line = {
            "slope": pair.line.slope,
            "intercept": pair.line.intercept,
            "slope_interval": list(pair.slope_interval),
            "intercept_interval": list(pair.intercept_interval),
        }
    points = [
        {
            "unique_tokens": point.unique_tokens,
            "flops": point.flops,
            "interval": list(point.interval),
            "share_of_resamples": point.share,
            "better_above": point.better_above,
        }
        for point in pair.crossings
    ]
    return {
        "families": list(pair.families),
        "E": "kept" if pair.keep_e else "dropped",
        "points": points,
        "power_law": line,
        "looked_at_flops": list(pair.looked_at),
        "text": text,
    }


def write_laws(laws: FittedLaws, said: Sentences, path: Path) -> None:
    """Write ``laws.json``, whole or not at all, with its digest."""
    write_json(path, to_dict(laws, said))


@dataclass(frozen=True)
class Bootstrap:
    """Ends of 95 % intervals and samples, by constant."""

    intervals: dict[str, tuple[float | None, float | None]]
    samples: dict[str, list[float | None]]


@dataclass(frozen=True)
class WrittenLaw:
    """A family's law as it is written; what is infinite or unknown is None."""

    constants: dict[str, float | None]
    intervals: dict[str, tuple[float | None, float | None]]
    objective: float | None
    r2: float | None
    r2_no_decay: float | None
    identified: dict[str, bool]
    notes: list[str]
    fixed: list[str]
    runs: int
    ranges: dict[str, tuple[float, float]]
    bootstrap: Bootstrap


@dataclass(frozen=True)
class WrittenPoint:
    """Where two laws cross, as it is written."""

    unique_tokens: float
    flops: float | None
    interval: tuple[float | None, float | None]
    share_of_resamples: float | None
    better_above: str | None


@dataclass(frozen=True)
class WrittenPair:
    """Two families' critical compute as it is written."""

    families: tuple[str, str]
    E: str
    points: list[WrittenPoint]
    power_law: dict[str, Any] | None
    looked_at_flops: list[float]
    text: str


@dataclass(frozen=True)
class Critical:
    """All critical compute, with its units."""

    units: dict[str, str]
    pairs: list[WrittenPair]


FIELDS: dict[str, Any] = {
    "law": str,
    "settings": dict[str, bool],
    "runs": Facts,
    "laws": dict[str, WrittenLaw],
    "critical": Critical,
    "held_out": dict[str, dict[str, float | None]],
}
"""``laws.json`` holds these fields, each of this type."""
ALLOWED = f"a {LAWS_FILE} that `anyorder fit` wrote, or its folder"
EDGE = 1e-6
"""A constant at the edge of the search may lie beyond it by this share of itself, as it is written rounded."""


def read_laws(path: str | Path) -> Laws:
    """Read ``laws.json``, or the one in a folder; every field is checked against its declaration.

    Raises:
        UserError: it does not exist, holds no laws, was changed since it was written, or a value in it is none that a
            fit gives; it is named.
    """
    path = Path(path)
    path = path / LAWS_FILE if path.is_dir() else path
    try:
        written = read_json(path)
    except FileNotFoundError as error:
        raise UserError("laws", str(path), ALLOWED) from error
    if not isinstance(written.get("laws"), dict):
        raise UserError("laws", str(path), ALLOWED)
    written = checked(FIELDS, written, path, UserError)
    try:
        law_named(written["law"])
        families = {family: _read_law(law, family) for family, law in written["laws"].items()}
        if not families:
            raise ConfigError("laws", {}, "one family or more")
        _check_pairs(written["critical"].pairs, list(families))
        for law in written["held_out"]:
            law_named(law)
    except ConfigError as wrong:
        raise UserError(f"{path}: {wrong}") from wrong
    return Laws(families, written["runs"])


def _read_law(law: WrittenLaw, family: str) -> FamilyLaw:
    """Return a family's law after checking its numbers."""
    for name, value in (("objective", law.objective), ("r2", law.r2), ("r2_no_decay", law.r2_no_decay)):
        if value is not None:
            check_number(f"{name} of {family}", value)
    check_number(f"runs of {family}", law.runs, 1, whole=True)
    missing = [name for name in PUBLISHED if name not in law.constants]
    if missing:
        raise ConfigError(f"constants of {family}", sorted(law.constants), f"also {missing[0]}")
    for name, value in law.constants.items():
        check_constant(f"{name} of {family}", name, value)
    for name, values in [*law.intervals.items(), *law.bootstrap.intervals.items()]:
        for value in values:
            if value is not None or name not in CONSTANTS:
                check_constant(f"interval of {name} of {family}", name, value)
    for name, drawn_values in law.bootstrap.samples.items():
        for value in drawn_values:
            check_constant(f"sample of {name} of {family}", name, value)
    if set(law.ranges) != set(RANGES):
        raise ConfigError(f"ranges of {family}", sorted(law.ranges), ", ".join(RANGES))
    for name, (low, high) in law.ranges.items():
        check_number(f"low end of {name} of {family}", low, 0, high, above=True)
        check_number(f"high end of {name} of {family}", high, low)
    drawn = law.bootstrap.samples
    counts = {len(values) for values in drawn.values()} or {1}
    if len(counts) > 1 or 0 in counts:
        raise ConfigError(f"samples of {family}", sorted(counts), "as many of every constant, 1 or more")
    constants = constants_array({name: value for name, value in law.constants.items() if value is not None})
    samples = np.tile(constants, (counts.pop(), 1))
    for name, sampled in drawn.items():
        samples[:, Constant[name]] = [NEUTRAL[name] if value is None else value for value in sampled]
    return FamilyLaw(constants, samples, law.ranges)


def check_constant(field: str, name: str, value: float | None) -> None:
    """Check a constant of a law, or an end of its interval; None stands for infinity, where that does nothing.

    Raises:
        ConfigError: it is not finite or not within what a fit searches.
    """
    if name not in CONSTANTS:
        raise ConfigError(field, value, f"one of {', '.join(CONSTANTS)}")
    if value is None and NEUTRAL.get(name) == np.inf:
        return
    if name in NEUTRAL and value == NEUTRAL[name]:
        return
    low, high = BOUNDS.get(name, (0.0, LARGEST_LOSS))
    check_number(field, value, low * (1 - EDGE), high * (1 + EDGE))


def _check_pairs(pairs: list[WrittenPair], families: list[str]) -> None:
    for pair in pairs:
        where = f"pair {', '.join(pair.families)}"
        if not set(pair.families) <= set(families) or pair.E not in ("kept", "dropped"):
            raise ConfigError(where, pair.E, f"two of {', '.join(families)}, E kept or dropped")
        numbers = [*pair.looked_at_flops]
        for point in pair.points:
            numbers += [n for n in (point.unique_tokens, point.flops, *point.interval) if n is not None]
            if point.share_of_resamples is not None:
                check_number(f"share of {where}", point.share_of_resamples, 0, 1)
            if point.better_above not in (None, *pair.families):
                raise ConfigError(f"better_above of {where}", point.better_above, " or ".join(pair.families))
        for number in numbers:
            check_number(f"compute of {where}", number, 0)
