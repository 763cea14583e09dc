"""``laws.json``: what ``anyorder fit`` found, for other programs and for ``anyorder advise``."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anyorder.errors import UserError, bad_value
from anyorder.files import write_whole
from anyorder.reports.page import finite
from anyorder.scaling.config import FitConfig
from anyorder.scaling.facts import Facts
from anyorder.scaling.intervals import percentiles
from anyorder.scaling.law import CONSTANTS, Array, constants_array
from anyorder.scaling.laws import FamilyLaw, Laws
from anyorder.scaling.pairs import Pair

LAWS_FILE = "laws.json"
PUBLISHED = CONSTANTS[:7]
"""Always written; the constants of the overfitting term only where the law has them."""


def to_dict(laws: Laws) -> dict[str, Any]:
    """Return the content of ``laws.json``; what is infinite (a decay that the law does not have) or unknown is null."""
    config = laws.config
    written = {family: _law_dict(law, config) for family, law in laws.laws.items()}
    pairs = [_pair_dict(pair) for pair in laws.pairs]
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


def _law_dict(law: FamilyLaw, config: FitConfig) -> dict[str, Any]:
    shown = [
        name
        for name in CONSTANTS
        if name in PUBLISHED or name in law.intervals or name in config.fixed.given()
    ]
    values = dict(zip(CONSTANTS, law.constants.tolist(), strict=True))
    fixed = [name for name in shown if name not in law.intervals and math.isfinite(values[name])]
    columns = {name: CONSTANTS.index(name) for name in law.intervals}
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
        "notes": law.notes,
        "fixed": fixed,
        "runs": law.runs,
        "ranges": {name: list(ends) for name, ends in law.ranges.items()},
        "bootstrap": {
            "intervals": {name: percentiles(law.samples[:, i]).tolist() for name, i in columns.items()},
            "samples": {name: [float(f"{v:.6g}") for v in law.samples[:, i]] for name, i in columns.items()},
        },
    }


def _pair_dict(pair: Pair) -> dict[str, Any]:
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
        "text": pair.text(),
    }


def write_laws(laws: Laws, path: Path) -> None:
    """Write ``laws.json``, whole or not at all."""
    write_whole(path, json.dumps(to_dict(laws), indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True)
class ReadLaw:
    """A family's law as read back.

    Attributes:
        constants: (10,).
        samples: (resamples, 10) over the bootstrap.
        ranges: smallest and largest of each of ``RANGES`` among its runs.
    """

    constants: Array
    samples: Array
    ranges: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ReadLaws:
    """``laws.json`` as read back: the law of each family, and what is known of the runs."""

    families: dict[str, ReadLaw]
    facts: Facts


def read_laws(path: str | Path) -> ReadLaws:
    """Read ``laws.json``, or the one in a folder.

    Raises:
        UserError: it does not exist or holds no laws.
    """
    path = Path(path)
    path = path / LAWS_FILE if path.is_dir() else path
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        families = {family: _read_law(law) for family, law in written["laws"].items()}
        facts = Facts(**written["runs"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        allowed = f"a {LAWS_FILE} that `anyorder fit` wrote, or its folder"
        raise UserError(bad_value("laws", str(path), allowed)) from error
    return ReadLaws(families, facts)


def _read_law(law: dict[str, Any]) -> ReadLaw:
    constants = constants_array(
        {name: value for name, value in law["constants"].items() if value is not None}
    )
    drawn = law["bootstrap"]["samples"]
    count = max((len(values) for values in drawn.values()), default=1)
    samples = np.tile(constants, (count, 1))
    for name, values in drawn.items():
        samples[:, CONSTANTS.index(name)] = values
    return ReadLaw(constants, samples, {name: (low, high) for name, (low, high) in law["ranges"].items()})
