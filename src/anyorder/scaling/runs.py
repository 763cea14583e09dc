"""Tables of training runs: parameters, tokens, unique tokens, loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anyorder.errors import UserError, bad_value, did_you_mean
from anyorder.scaling.law import FLOPS_PER_PARAM_TOKEN, Array

NUMBERS = {"params": "N", "tokens": "D", "unique_tokens": "U", "loss": "val_loss"}
"""Columns a table needs, and what the papers' own tables call them."""
FAMILY = "factorization"
ALL = "all"
ONE_EPOCH = 1 + 1e-9
"""Tokens over unique tokens up to which a run counts as one epoch."""


@dataclass(frozen=True)
class Runs:
    """Runs as columns.

    Attributes:
        params: (runs,) with embeddings.
        tokens: (runs,) seen in training, repetitions included.
        unique_tokens: (runs,) to draw from.
        loss: (runs,) validation loss, nats.
        factorization: (runs,) names.
    """

    params: Array
    tokens: Array
    unique_tokens: Array
    loss: Array
    factorization: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def families(self) -> tuple[str, ...]:
        """The names of factorizations, in the order of their first run."""
        return tuple(dict.fromkeys(self.factorization.tolist()))

    @property
    def epochs(self) -> Array:
        """Tokens seen over unique tokens, (runs,)."""
        return self.tokens / self.unique_tokens

    @property
    def flops(self) -> Array:
        """C = 6 N D, (runs,)."""
        return FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @property
    def single_epoch(self) -> NDArray[np.bool_]:
        """Which runs repeat nothing, (runs,)."""
        return self.epochs <= ONE_EPOCH

    def of(self, family: str) -> "Runs":
        """Return the runs of one factorization."""
        return self.where(self.factorization == family)

    def where(self, mask: NDArray[np.generic]) -> "Runs":
        """Return some runs: a mask, or indices."""
        return Runs(
            self.params[mask],
            self.tokens[mask],
            self.unique_tokens[mask],
            self.loss[mask],
            self.factorization[mask],
        )


def make_runs(
    params: Sequence[float] | Array,
    tokens: Sequence[float] | Array,
    unique_tokens: Sequence[float] | Array,
    loss: Sequence[float] | Array,
    factorization: Sequence[str] | None = None,
) -> Runs:
    """Return checked runs; without ``factorization`` all are of one, called ``all``.

    Raises:
        UserError: a value is not finite or not above 0.
    """
    columns = [np.asarray(column, dtype=float) for column in (params, tokens, unique_tokens, loss)]
    for name, column in zip(NUMBERS, columns, strict=True):
        wrong = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
        if len(wrong):
            place = f"{name} in row {wrong[0] + 1}"
            more = f" ({len(wrong)} rows are wrong)" if len(wrong) > 1 else ""
            raise UserError(bad_value(place, float(column[wrong[0]]), f"a finite number above 0{more}"))
    names = [ALL] * len(columns[0]) if factorization is None else list(factorization)
    n, d, u, losses = columns
    return Runs(n, d, u, losses, np.array(names, dtype=str))


def read_runs(path: str | Path) -> tuple[Runs, list[str]]:
    """Read a CSV or parquet table; ``N, D, U, val_loss`` are understood as well.

    Returns:
        The runs, and the names of columns that were not used.

    Raises:
        UserError: no such table, a column is missing or not made of numbers, or a value is impossible.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = Path(path)
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise UserError(bad_value("runs", str(path), "an existing file whose name ends in .csv or .parquet"))
    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(bad_value("runs", str(path), f"a table that can be read ({error})")) from error
    used = {name: name if name in table.column_names else other for name, other in NUMBERS.items()}
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise UserError(bad_value(f"columns of {path.name}", table.column_names, f"{twice[0]} once"))
    missing = [name for name, column in used.items() if column not in table.column_names]
    others = [name for name in table.column_names if name not in (*used.values(), FAMILY)]
    needed = f"columns {', '.join(NUMBERS)} and, where there are several families, {FAMILY}"
    if missing:
        close = "".join(did_you_mean(name, missing) for name in others)
        raise UserError(bad_value(f"columns of {path.name}", table.column_names, needed + close))
    if FAMILY not in table.column_names:
        # A misspelt name would silently merge the families.
        misspelt = [name for name in others if did_you_mean(name, [FAMILY])]
        if misspelt:
            raise UserError(
                bad_value(f"columns of {path.name}", misspelt[0], f"{needed}, did you mean {FAMILY!r}?")
            )
    numbers = []
    for name, column in used.items():
        try:
            # By way of a list, as to_numpy imports pandas, which takes longer than the fit; an empty cell is a nan.
            numbers.append(np.array(table[column].cast(pa.float64(), safe=False).to_pylist(), dtype=float))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                bad_value(f"column {name}", str(table[column].type), "numbers in every row")
            ) from error
    families = None
    if FAMILY in table.column_names:
        families = table[FAMILY].to_pylist()
        if any(name is None or not str(name).strip() for name in families):
            raise UserError(bad_value(f"column {FAMILY}", "an empty cell", "a name in every row"))
        families = [str(name) for name in families]
    n, d, u, losses = numbers
    return make_runs(n, d, u, losses, families), others
