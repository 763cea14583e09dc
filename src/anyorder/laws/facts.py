"""What a table of runs says beside the runs: its unit of tokens, its protocol, the speed of its machine."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from anyorder.errors import ConfigError, check_number
from anyorder.laws.law import Array
from anyorder.laws.runs import Runs, numbers

if TYPE_CHECKING:
    import pyarrow as pa

PROTOCOLS = {
    "final": "the loss at the end of a run whose learning rate falls over its whole length",
    "best": "the lowest validation loss along a run, so early stopping",
}
"""A law is about one of these losses of a run; they differ a lot where memorizing sets in early."""


@dataclass(frozen=True)
class Facts:
    """What is known of the runs, for those who use their laws.

    Attributes:
        loss: the column the law was fitted to.
        protocol: a key of ``PROTOCOLS``; None where it was not said.
        values_per_token: action values a token stands for; None where it was not said.
        flops_per_s: by family, 6 N D over wall time: the median of the quarter of the runs with the most compute.
        exact: by family, whether its loss is the likelihood; otherwise it is an upper bound.
    """

    loss: str = "loss"
    protocol: str | None = None
    values_per_token: float | None = None
    flops_per_s: dict[str, float] = field(default_factory=dict)
    exact: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.protocol not in (None, *PROTOCOLS):
            raise ConfigError("protocol", self.protocol, ", ".join(PROTOCOLS))
        numbers = {f"flops_per_s of {family}": value for family, value in self.flops_per_s.items()}
        if self.values_per_token is not None:
            numbers["values_per_token"] = self.values_per_token
        for name, value in numbers.items():
            check_number(name, value, 0, above=True)


def protocol_of(column: str) -> str | None:
    """Return the protocol that a column's name tells.

    >>> protocol_of("loss_best"), protocol_of("loss")
    ('best', None)
    """
    return next((name for name in PROTOCOLS if column.endswith(f"_{name}")), None)


def facts_of(table: "pa.Table", runs: Runs, loss: str = "loss", protocol: str | None = None) -> Facts:
    """Read the columns ``values_per_token``, ``wall_s`` and ``exact``, where there are.

    Args:
        table: the runs are its rows.
        runs: made of it.
        loss: the column that was taken for the loss.
        protocol: told by the name of that column when None.
    """
    columns = table.column_names
    per_token = numbers(table, "values_per_token") if "values_per_token" in columns else np.full(1, np.nan)
    one_unit = np.isfinite(per_token).all() and np.ptp(per_token) == 0
    speeds = speed(runs, numbers(table, "wall_s")) if "wall_s" in columns else {}
    return Facts(
        loss,
        protocol or protocol_of(loss),
        float(per_token[0]) if one_unit and per_token[0] > 0 else None,
        speeds,
        exactness(runs, table["exact"].to_pylist()) if "exact" in columns else {},
    )


def speed(runs: Runs, wall_s: Array) -> dict[str, float]:
    """Return the FLOPs a second of each family.

    They are of its most expensive runs, as small ones wait for other things than FLOPs.
    """
    found = {}
    for family in runs.families:
        timed = (runs.factorization == family) & (wall_s > 0) & np.isfinite(wall_s)
        if timed.any():
            found[family] = top_speed(runs.flops[timed], wall_s[timed])
    return found


def top_speed(flops: Array, seconds: Array) -> float:
    """Return the median FLOPs a second of the quarter of the runs with the most compute."""
    return float(np.median((flops / seconds)[flops >= np.quantile(flops, 0.75)]))


def exactness(runs: Runs, exact: list[Any]) -> dict[str, bool]:
    """Return by family whether the loss of all its runs is exact, of families for which every row says so."""
    each = {family: [exact[row] for row in np.flatnonzero(runs.factorization == family)] for family in runs.families}
    return {f: all(values) for f, values in each.items() if all(isinstance(value, bool) for value in values)}
