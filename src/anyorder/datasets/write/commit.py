"""Adding one episode to a LeRobot dataset so that a kill at any moment loses nothing that was finished.

LeRobot writes a parquet file's footer only when recording ends, so a killed recording is unreadable. Here
every episode is first written whole, by LeRobot, to a *staging* folder beside the dataset. Renaming it to the
*pending* folder is the commit; moving its files into the dataset can then be repeated until it is done. Files
move in the order data, videos, episode table, ``info.json``: readers trust the counts in ``info.json``, and
rows beyond those counts are ignored, so the dataset also opens between two moves. ``SHA256SUMS`` lists the digest of
every file; meanwhile it lists two for those that are replaced.

Folders that are written in one go become whole by ``anyorder.folders.becoming``. An episode cannot: it joins files that
are there, and what was committed must outlive the process that wrote it.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anyorder.errors import DatasetError
from anyorder.sums import SUMS, allow_sums, check_sums, read_sums, settle_sums, write_sums

INFO_PATH = Path("meta") / "info.json"
EPISODES_FOLDER = Path("meta") / "episodes"
FILE_PATTERN = "chunk-{:03d}/file-{:03d}.parquet"

EPISODES_PER_FILE = 10
MERGE_BELOW_BYTES = 2**20
"""A parquet file below both limits is rewritten with the next episode appended: few files, bounded cost."""


def staging_folder(root: Path) -> Path:
    """Return the folder in which the next episode is written; its content is worthless until committed."""
    return root.parent / f".{root.name}.staging"


def pending_folder(root: Path) -> Path:
    """Return the folder of a committed episode whose files are not all moved yet."""
    return root.parent / f".{root.name}.pending"


def recover(root: Path) -> None:
    """Finish what a killed recording had committed and drop what it had not."""
    shutil.rmtree(staging_folder(root), ignore_errors=True)
    if pending_folder(root).is_dir():
        _move_pending(root)


def discard(root: Path) -> None:
    """Drop what a killed recording left beside ``root``."""
    shutil.rmtree(staging_folder(root), ignore_errors=True)
    shutil.rmtree(pending_folder(root), ignore_errors=True)


def commit(root: Path) -> None:
    """Make the staged episode part of the dataset ``root``, or the dataset itself if that is new."""
    staging = staging_folder(root)
    shutil.rmtree(staging / "images", ignore_errors=True)  # LeRobot's frames on their way into a video
    if not (root / INFO_PATH).is_file():
        write_sums(staging, files_below(staging))
        staging.rename(root)
        return
    _append_to_last_files(root, staging)
    staging.rename(pending_folder(root))
    _move_pending(root)


def last_episode(root: Path, episode: int) -> dict[str, Any]:
    """Return the row of ``episode`` in the dataset's episode table, without its statistics.

    It is nearly always the last row of the last file, which is why files are read from the end.
    """
    for path in sorted((root / EPISODES_FOLDER).glob("*/*.parquet"), reverse=True):
        names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
        for row in reversed(pq.read_table(path, columns=names).to_pylist()):
            if row["episode_index"] == episode:
                return dict(row)
    raise FileNotFoundError(f"{root / EPISODES_FOLDER}: no episode {episode}")


LIST_HINT = "delete that list if the dataset was changed on purpose, as by LeRobot's tools"


def check_recorded(root: Path) -> None:
    """Check a dataset's files but its videos against the digests that recording wrote; without those it is accepted.

    Raises:
        DatasetError: a file is not what was written.
    """
    names = [name for name in read_sums(root, DatasetError) if not name.startswith("videos/")]
    check_sums(root, names, DatasetError, LIST_HINT)


def check_recorded_videos(root: Path, files: Iterable[Path]) -> set[Path]:
    """Check videos likewise; return those that have a digest.

    Raises:
        DatasetError: a file is not what was written.
    """
    listed = read_sums(root, DatasetError)
    known = {name: path for path in files if (name := path.relative_to(root).as_posix()) in listed}
    check_sums(root, sorted(known), DatasetError, LIST_HINT)
    return set(known.values())


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _move_pending(root: Path) -> None:
    pending = pending_folder(root)
    names = files_below(pending)
    listed = (root / SUMS).is_file()
    if listed:
        # While files move, both the old and the new ones are what was written.
        allow_sums(root, pending, names)
    # ``info.json`` comes last, the episode table before it.
    for name in sorted(names, key=lambda name: (name == str(INFO_PATH), name.startswith("meta/"), name)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(pending / name, root / name)
    if listed:
        settle_sums(root)
    shutil.rmtree(pending)


def _append_to_last_files(root: Path, staging: Path) -> None:
    """Merge the new episode's two tables into the dataset's last files while those are small."""
    (row_path,) = (staging / EPISODES_FOLDER).glob("*/*.parquet")
    row = pq.read_table(row_path)
    (episode,) = row["episode_index"].to_pylist()
    previous = last_episode(root, episode - 1)
    data = _last_file(root, Path("data"), previous, "data")
    if data is not None:
        (new,) = (staging / "data").glob("*/*.parquet")
        rows = pq.read_table(new)
        new.unlink()
        with pq.ParquetFile(root / data) as old:
            groups = [old.read_row_group(group) for group in range(old.num_row_groups)]
        _write(staging / data, [*groups, rows])
        row = _same_file(row, previous, "data")
    table = _last_file(root, EPISODES_FOLDER, previous, "meta/episodes")
    row_path.unlink()
    if table is None:
        _write(row_path, [row])
    else:
        old_rows = pq.read_table(root / table)
        row = _same_file(row, previous, "meta/episodes").select(old_rows.schema.names).cast(old_rows.schema)
        _write(staging / table, [pa.concat_tables([old_rows, row]).combine_chunks()])


def _last_file(root: Path, folder: Path, previous: dict[str, Any], prefix: str) -> Path | None:
    """Return the file that holds the ``previous`` episode if the next one may be appended to it."""
    file = folder / FILE_PATTERN.format(previous[f"{prefix}/chunk_index"], previous[f"{prefix}/file_index"])
    small = (root / file).stat().st_size < MERGE_BELOW_BYTES
    return file if small and pq.read_metadata(root / file).num_row_groups < EPISODES_PER_FILE else None


def _same_file(row: pa.Table, previous: dict[str, Any], prefix: str) -> pa.Table:
    """Return ``row`` pointing to the file of the ``previous`` episode."""
    for key in (f"{prefix}/chunk_index", f"{prefix}/file_index"):
        column = pa.array([previous[key]], row.schema.field(key).type)
        row = row.set_column(row.schema.get_field_index(key), key, column)
    return row


def _write(path: Path, row_groups: list[pa.Table]) -> None:
    """Write one parquet file; the data files have one row group an episode, as LeRobot's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = row_groups[0].schema
    with pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=True) as writer:
        for rows in row_groups:
            writer.write_table(rows.select(schema.names).cast(schema))
