"""Parquet files of a dataset: which there are, their columns as arrays, and what is wrong with them in one line."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from anyorder.errors import DatasetError
from anyorder.files import Words

Array = npt.NDArray[Any]

LFS_POINTER = b"version https://git-lfs"
"""Git leaves a file that begins like this in the place of a large one that was not fetched."""
UNREADABLE = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
LARGEST = 2**63 - 1
LISTS = (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)


def parquet_files(folder: Path) -> list[Path]:
    """Return the parquet files in the folders of ``folder``, in order, without hidden ones as macOS leaves."""
    files = [path for path in folder.glob("*/*.parquet") if not path.name.startswith(".")]
    return sorted(path for path in files if not path.parent.name.startswith("."))


def damaged(path: Path, what: str, reason: str) -> DatasetError:
    """Return the error of a file that cannot be read, ``what`` it should be, and the reason."""
    if is_pointer(path):
        reason = "Git LFS has not fetched it: `git lfs pull` does"
    return DatasetError("dataset file", str(path), f"{what} ({' '.join(reason.split())[:160]})")


def is_pointer(path: Path) -> bool:
    """Whether a file only stands for a large one that Git LFS would fetch."""
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def read_schema(path: Path, columns: Sequence[str]) -> pa.Schema:
    """Return the columns that a parquet file has, and of which types.

    Raises:
        DatasetError: it is damaged, or lacks one of ``columns``.
    """
    try:
        schema = pq.read_schema(path)
    except UNREADABLE as error:
        raise damaged(path, "a whole parquet file", str(error)) from error
    if missing := sorted(set(columns) - set(schema.names)):
        raise DatasetError("dataset file", str(path), f"a file with the columns {missing}")
    return schema


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file, all of its columns or some.

    Raises:
        DatasetError: it is damaged, or lacks a column.
    """
    read_schema(path, columns or ())
    try:
        return pq.read_table(path, columns=None if columns is None else list(columns), page_checksum_verification=True)
    except UNREADABLE as error:
        raise damaged(path, "a whole parquet file", str(error)) from error


def stack(column: pa.ChunkedArray, shape: Sequence[int], where: str) -> Array:
    """Turn a (nested) list column of numbers or booleans into an array (frames, *shape); (frames,) for the shape (1,).

    It is float32, int64 or bool, the types that LeRobot's loader makes of them. A message calls the column ``where``.

    Raises:
        DatasetError: rows of another length, missing ones, no numbers, or an integer that int64 does not hold.
    """
    array: Any = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    frames = len(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    sizes = [int(size) for size in shape]
    wanted, rows, level = f"{where}, row {{}}", frames, 0
    while isinstance(array, LISTS):
        found = pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False)
        declared = sizes[level] if level < len(sizes) else -1
        length = declared if (found == declared).any() else max(0, int(found[0])) if len(found) else 1
        if (found != length).any():
            row = int(np.argmax(found != length))
            given = Words("nothing" if found[row] < 0 else f"{found[row]} values")
            raise DatasetError(wanted.format(row * frames // rows), given, f"shape {sizes}")
        array, rows, level = array.flatten(), rows * length, level + 1
    if rows != frames * math.prod(sizes):
        given = Words(f"{rows // max(frames, 1)} values a row")
        raise DatasetError(where, given, f"shape {sizes}, as its meta/info.json says")
    kind = array.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise DatasetError(where, Words(str(kind)), f"numbers of shape {sizes}")
    if array.null_count and not pa.types.is_floating(kind):
        row = array.is_null().index(True).as_py() * frames // rows
        raise DatasetError(wanted.format(row), Words("nothing"), f"shape {sizes}")
    values: Array = array.to_numpy(zero_copy_only=False)
    if values.dtype == np.uint64 and (large := values > LARGEST).any():
        first = int(np.argmax(large))
        raise DatasetError(wanted.format(first * frames // rows), int(values[first]), "integers below 2^63")
    values = values.reshape(frames, *(() if sizes == [1] else sizes))
    if values.dtype == np.bool_:
        return values
    with np.errstate(over="ignore"):  # becomes infinite, which is refused by name where the column is used
        return values.astype(np.float32 if values.dtype.kind == "f" else np.int64, copy=False)


def entries(table: pa.Table, name: str, path: Path) -> list[Any]:
    """Return a column as Python's values.

    Raises:
        DatasetError: one cannot be read, as text that is no UTF-8.
    """
    try:
        return table.column(name).to_pylist()
    except UNREADABLE as error:
        raise damaged(path, "a whole parquet file", str(error)) from error


def whole_numbers(table: pa.Table, name: str, path: Path) -> list[int]:
    """Return a column of integers, 0 ... 2^31.

    Raises:
        DatasetError: it holds something else.
    """
    values = entries(table, name, path)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2**31:
            raise DatasetError(f"{name} in {path}", value, f"integers, 0 to {2**31}")
    return values
