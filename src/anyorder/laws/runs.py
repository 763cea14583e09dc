"""Tables of training runs: parameters, tokens, unique tokens, loss."""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anyorder.errors import UserError, did_you_mean
from anyorder.files import changed
from anyorder.laws.law import FLOPS_PER_PARAM_TOKEN, Array

if TYPE_CHECKING:
    import pyarrow as pa

NUMBERS = {"params": "N", "tokens": "D", "unique_tokens": "U", "loss": "val_loss"}
"""A table needs these columns; the papers' own tables call them so."""
FAMILY = "factorization"
"""The column that names a run's variant is called so."""
SUFFIXES = (".csv", ".parquet")
ALL = "all"
"""Runs of a table without that column are of one variant of this name."""
DIGEST = "anyorder.sha256"
"""Under this key the metadata of a parquet file's schema holds the digest of its table."""
MOST = 1e30
"""All sizes, tokens and losses are below this; products of such numbers are finite."""
ROUNDING = 0.01
"""The tokens of a run of one epoch may miss its unique tokens by this share: the last batch is cut, or wraps around."""


@dataclass(frozen=True)
class Runs:
    """Runs as columns.

    Attributes:
        params: (runs,) with embeddings.
        tokens: (runs,) seen in training, repetitions included.
        unique_tokens: (runs,) different ones in its data; above ``tokens`` where a run ends within its first epoch.
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
        return self.epochs <= 1 + ROUNDING

    @property
    def repeated(self) -> int:
        """How many runs equal an earlier one in everything."""
        return len(self) - len(set(zip(*vars(self).values(), strict=True)))

    def of(self, family: str) -> "Runs":
        """Return the runs of one factorization."""
        return self.where(self.factorization == family)

    def where(self, mask: NDArray[np.generic]) -> "Runs":
        """Return some runs: a mask, or indices."""
        return Runs(
            self.params[mask], self.tokens[mask], self.unique_tokens[mask], self.loss[mask], self.factorization[mask]
        )


def make_runs(
    params: Sequence[float] | Array,
    tokens: Sequence[float] | Array,
    unique_tokens: Sequence[float] | Array,
    loss: Sequence[float] | Array,
    factorization: Sequence[str] | None = None,
) -> Runs:
    """Return checked runs; without ``factorization`` all are of one, called ``all``.

    A run may end within its first epoch: the laws take min(U, D) as what it has seen, as in arXiv 2305.16264.

    Raises:
        UserError: a value is not finite or not above 0.
    """
    columns = [np.asarray(column, dtype=float) for column in (params, tokens, unique_tokens, loss)]
    for name, column in zip(NUMBERS, columns, strict=True):
        right = np.isfinite(column) & (column > 0) & (column < MOST)
        _refuse(name, column, ~right, f"a finite number above 0, below {MOST:g}")
    n, d, u, losses = columns
    names = [ALL] * len(n) if factorization is None else list(factorization)
    return Runs(n, d, u, losses, np.array(names, dtype=str))


def _refuse(name: str, column: Array, wrong: NDArray[np.bool_], allowed: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        more = f" ({len(rows)} rows are wrong)" if len(rows) > 1 else ""
        raise UserError(f"{name} in row {rows[0] + 1}", float(column[rows[0]]), allowed + more)


def read_table(path: str | Path) -> "pa.Table":
    """Read a CSV or parquet file whole.

    Raises:
        UserError: there is none, it cannot be read, or it has a column twice.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = Path(path)
    if path.suffix not in SUFFIXES or not path.is_file():
        raise UserError("runs", str(path), instead_of(path))
    try:
        if path.suffix == ".csv":
            table = csv.read_csv(path)
        else:
            table = parquet.read_table(path, page_checksum_verification=True)
            table.validate(full=True)
        digest = (table.schema.metadata or {}).get(DIGEST.encode(), b"").decode(errors="replace")
        right = digest in ("", table_digest(table))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError("runs", str(path), f"a table that can be read ({reason})") from error
    if not right:
        where = f"its schema's metadata {DIGEST!r} (without that entry a table changed on purpose is accepted)"
        raise UserError(changed(path, where))
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise UserError("columns of runs", table.column_names, f"{twice[0]} once")
    return table


def instead_of(path: Path) -> str:
    """Return what to give in the place of a path that is no table: one that is near, or what writes one."""
    allowed = f"an existing file whose name ends in {' or '.join(SUFFIXES)}"
    if path.is_dir():
        near = [table for suffix in SUFFIXES for table in sorted(path.glob(f"*{suffix}"))]
        if near:
            return f"{allowed}: runs={near[0]}" + (f" or another of {len(near)} there" if len(near) > 1 else "")
        return f"{allowed}; if this is a study, `anyorder study collect out={path}` writes {path / 'runs.parquet'}"
    names = [table.name for suffix in SUFFIXES for table in path.parent.glob(f"*{suffix}")]
    collect = "`anyorder study collect out=STUDY` writes STUDY/runs.parquet"
    return f"{allowed}{did_you_mean(path.name, names)}; {collect}"


def table_digest(table: "pa.Table") -> str:
    """Return the digest of a table's columns, their types and values."""
    found = hashlib.sha256()
    for i, column in enumerate(table.schema):
        values = table.column(i).to_pylist()
        found.update(json.dumps([column.name, str(column.type), values], default=str).encode())
    return found.hexdigest()


def of_families(table: "pa.Table", families: Sequence[str]) -> "pa.Table":
    """Return the rows of some families, all when none is named.

    Raises:
        UserError: a name that the table does not have.
    """
    if not families:
        return table
    names = table[FAMILY].to_pylist() if FAMILY in table.column_names else [ALL] * len(table)
    for name in families:
        if name not in names:
            allowed = ", ".join(dict.fromkeys(map(str, names))) + did_you_mean(name, map(str, names))
            raise UserError("families", name, allowed)
    return table.filter([name in families for name in names])


def runs_of(table: "pa.Table", loss: str = "loss") -> tuple[Runs, list[str]]:
    """Return the runs of a table; ``N, D, U, val_loss`` are understood as well.

    Args:
        table: one run a row.
        loss: the column of the loss.

    Returns:
        The runs, and the names of columns that were not used.

    Raises:
        UserError: a column is missing or not made of numbers, or a value is impossible.
    """
    names = table.column_names
    used = {name: name if name in names else other for name, other in NUMBERS.items()}
    if loss != "loss":
        used["loss"] = loss
    missing = [loss if name == "loss" else name for name, column in used.items() if column not in names]
    others = [name for name in names if name not in (*used.values(), FAMILY)]
    needed = f"{', '.join(NUMBERS)} and, where there are several families, {FAMILY}"
    if missing == [loss] and (columns := loss_columns(others, loss)):
        known = " or ".join(f"loss={name}" for name in columns)
        close = did_you_mean(loss, columns) if loss != "loss" else ""
        raise UserError("loss", loss, f"a column of the table: {known}{close}")
    if missing:
        close = "".join(dict.fromkeys(did_you_mean(name, missing) for name in others))
        choice = "; loss=NAME takes another column for the loss" if missing == ["loss"] else ""
        raise UserError("columns of runs", names, f"with {', '.join(missing)}: {needed}{close}{choice}")
    if FAMILY not in names:
        # A misspelt name would silently merge the families.
        misspelt = [name for name in others if did_you_mean(name, [FAMILY])]
        if misspelt:
            raise UserError("columns of runs", misspelt[0], f"{needed}, did you mean {FAMILY!r}?")
    n, d, u, losses = (numbers(table, column) for column in used.values())
    families = None
    if FAMILY in names:
        families = table[FAMILY].to_pylist()
        if any(name is None or not str(name).strip() for name in families):
            raise UserError(f"column {FAMILY}", "an empty cell", "a name in every row")
        families = [str(name) for name in families]
    return make_runs(n, d, u, losses, families), others


def loss_columns(names: Sequence[str], loss: str) -> list[str]:
    """Return those of a table's columns that may have been meant by the column ``loss``, which it does not have.

    >>> loss_columns(["width", "loss_final", "loss_final_se", "loss_best", "test_best"], "loss")
    ['loss_final', 'loss_best']
    >>> loss_columns(["width", "val_nll"], "loss"), loss_columns(["width", "val_nll"], "val_nl")
    ([], ['val_nll'])
    """
    close = difflib.get_close_matches(loss, list(names)) if loss != "loss" else []
    # Those that end in _se are standard errors.
    return [name for name in names if (name.startswith("loss_") or name in close) and not name.endswith("_se")]


def numbers(table: "pa.Table", name: str) -> Array:
    """Return a column as floats, an empty cell as nan.

    Raises:
        UserError: it holds something else.
    """
    import pyarrow as pa

    try:
        # By way of a list, as to_numpy imports pandas, which takes longer than the fit.
        return np.array(table[name].cast(pa.float64(), safe=False).to_pylist(), dtype=float)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UserError(f"column {name}", str(table[name].type), "numbers in every row") from error


def read_runs(path: str | Path, loss: str = "loss") -> tuple[Runs, list[str]]:
    """Read the runs of a CSV or parquet file: ``runs_of(read_table(path), loss)``."""
    return runs_of(read_table(path), loss)
