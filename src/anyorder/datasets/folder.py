"""Reading the low-dimensional columns of a LeRobot dataset (v3) straight from its parquet files.

LeRobot's own reader turns every element into a tensor of its own; columns stacked once are about 1000 times
faster (``benchmarks/bench_loader.py``) and hold the same values.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from anyorder.errors import DatasetError, bad_value, did_you_mean

Array = npt.NDArray[Any]

INDEX_COLUMNS = ("index", "episode_index", "frame_index", "timestamp", "task_index")


@dataclass(frozen=True)
class DatasetInfo:
    """The part of ``meta/info.json`` that reading needs, checked."""

    root: Path
    fps: int
    features: dict[str, dict[str, Any]]
    total_episodes: int
    total_frames: int
    video_path: str = ""
    """Pattern of the video files, with video_key, chunk_index and file_index."""

    @property
    def cameras(self) -> list[str]:
        """Return the keys of image and video features."""
        return [key for key, feature in self.features.items() if feature["dtype"] in ("image", "video")]

    @property
    def vectors(self) -> list[str]:
        """Return the keys of numeric features, the index columns aside."""
        numeric = ("float", "int", "uint", "bool")
        return [
            key
            for key, feature in self.features.items()
            if str(feature["dtype"]).startswith(numeric) and key not in INDEX_COLUMNS
        ]


def resolve_root(
    root: str | Path | None, repo_id: str | None, *, images: bool, field: str = "dataset.repo_id"
) -> Path:
    """Return the folder of a dataset: ``root``, or ``repo_id`` in LeRobot's cache, downloaded if need be.

    ``field`` is what a message calls ``repo_id``.

    Raises:
        DatasetError: neither was given, or the hub does not answer.
    """
    if root is not None:
        return Path(root)
    if repo_id is None:
        allowed = "a dataset folder, or dataset.repo_id with its name on the hub"
        raise DatasetError(bad_value("dataset.root", None, allowed))
    # It tells at length of a decoder that nothing here needs.
    logging.getLogger("lerobot.utils.import_utils").setLevel(logging.ERROR)
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.constants import HF_LEROBOT_HOME

    cached = HF_LEROBOT_HOME / repo_id
    if (cached / "meta" / "info.json").is_file():
        return Path(cached)
    try:
        return Path(LeRobotDataset(repo_id, download_videos=images).root)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        allowed = f"a folder below {HF_LEROBOT_HOME}, or a dataset that the hub gives out ({reason})"
        raise DatasetError(bad_value(field, repo_id, allowed)) from error


def read_info(root: Path, field: str = "dataset.root") -> DatasetInfo:
    """Read and check ``meta/info.json`` of the dataset folder ``root``; ``field`` is what a message calls it.

    Raises:
        DatasetError: no such folder, no LeRobot dataset in it, an older version, or nothing recorded yet.
    """
    path = root / "meta" / "info.json"
    if not root.is_dir():
        raise DatasetError(bad_value(field, str(root), "the folder of a LeRobot dataset"))
    try:
        info = json.loads(path.read_text())
        version = str(info["codebase_version"])
        found = DatasetInfo(
            root,
            int(info["fps"]),
            info["features"],
            info["total_episodes"],
            info["total_frames"],
            info.get("video_path") or "",
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        allowed = "a LeRobot dataset of version v3.0 (its meta/info.json cannot be read)"
        raise DatasetError(bad_value(field, str(root), allowed)) from error
    if not version.startswith("v3."):
        allowed = f"v3.0; version v2.1 becomes it by: anyorder convert source={root} root=<new folder>"
        raise DatasetError(bad_value("dataset version", version, allowed))
    if found.total_episodes < 1:
        raise DatasetError(bad_value("dataset episodes", found.total_episodes, "at least one episode"))
    return found


def read_columns(info: DatasetInfo, keys: list[str], partial: bool = False) -> dict[str, Array]:
    """Stack columns over all files.

    Args:
        info: the dataset.
        keys: which columns.
        partial: accept that some files are not there, as where only some episodes were downloaded.

    Returns:
        For every key an array (frames, *shape): float32, int64 or bool, the types LeRobot's loader makes of
        them. A feature of shape (1,) gives (frames,), as there. Rows beyond ``info.total_episodes`` are left
        out: a recording that was cut off may have them.

    Raises:
        DatasetError: a file is damaged, or frames are missing.
    """
    files = sorted((info.root / "data").glob("*/*.parquet"))
    if not files:
        raise DatasetError(bad_value("dataset files", f"{info.root}/data", "at least one parquet file"))
    tables = []
    for file in files:
        try:
            missing = sorted(set(keys) - set(pq.read_schema(file).names))
            if not missing:
                tables.append(pq.read_table(file, columns=keys))
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            allowed = f"a whole parquet file ({reason})"
            raise DatasetError(bad_value("dataset file", str(file), allowed)) from error
        if missing:
            raise DatasetError(bad_value("dataset file", str(file), f"a file with the columns {missing}"))
    columns = {
        key: np.concatenate([_stack(table.column(key), info.features[key]) for table in tables])
        for key in keys
    }
    keep = columns["episode_index"] < info.total_episodes
    if int(keep.sum()) != info.total_frames and not partial:
        allowed = f"{info.total_frames} frames, as its meta/info.json says"
        raise DatasetError(bad_value("dataset frames", int(keep.sum()), allowed))
    return columns if keep.all() else {key: values[keep] for key, values in columns.items()}


@dataclass(frozen=True)
class VideoPlace:
    """Where an episode's frames of one camera are."""

    path: Path
    start_s: float


def video_places(info: DatasetInfo, camera: str, partial: bool = False) -> dict[int, VideoPlace]:
    """Read from the episode table in which video file, and from when on, each episode is.

    Args:
        info: the dataset.
        camera: the feature's name.
        partial: leave out the episodes whose file is not there, as where only some were downloaded.

    Raises:
        DatasetError: the table is damaged or says nothing about this camera, or a video file is missing.
    """
    columns = [f"videos/{camera}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    places = {}
    for file in sorted((info.root / "meta" / "episodes").glob("*/*.parquet")):
        try:
            rows = pq.read_table(file, columns=["episode_index", *columns]).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(bad_value("dataset file", str(file), "a whole parquet file")) from error
        for row in rows:
            if set(columns) - set(row):
                raise DatasetError(bad_value("dataset file", str(file), f"a table with {', '.join(columns)}"))
            chunk, number, start = (row[name] for name in columns)
            name = info.video_path.format(video_key=camera, chunk_index=chunk, file_index=number)
            places[int(row["episode_index"])] = VideoPlace(info.root / name, float(start))
    if partial:
        return {episode: place for episode, place in places.items() if place.path.is_file()}
    for path in {place.path for place in places.values()}:
        if not path.is_file():
            raise DatasetError(bad_value("video file", str(path), "a file, which the dataset's tables name"))
    missing = sorted(set(range(info.total_episodes)) - set(places))
    if missing:
        raise DatasetError(bad_value(f"episodes of {camera} without a video", missing, "none"))
    return places


def task_names(root: Path) -> list[str]:
    """Return the sentence of every task, by task index."""
    path = root / "meta" / "tasks.parquet"
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(bad_value("dataset file", str(path), "a whole parquet file")) from error
    # pandas calls an unnamed index __index_level_0__, which is what converted datasets carry.
    (name,) = [column for column in table.column_names if column != "task_index"]
    rows = zip(table.column("task_index").to_pylist(), table.column(name).to_pylist(), strict=True)
    return [task for _, task in sorted(rows)]


def vector_keys(info: DatasetInfo, features: Sequence[str] | None) -> list[str]:
    """Return the numeric features to read: ``action`` and those asked for, or all.

    Raises:
        DatasetError: there are no actions, or a feature does not exist or is not numeric.
    """
    if "action" not in info.vectors:
        raise DatasetError(bad_value("dataset features", sorted(info.features), "features with an 'action'"))
    if features is None:
        return info.vectors
    for key in features:
        if key not in info.vectors:
            allowed = ", ".join(info.vectors) + did_you_mean(key, info.vectors)
            raise DatasetError(bad_value("feature", key, allowed))
    return [key for key in info.vectors if key in features or key == "action"]


def dimension_names(feature: dict[str, Any]) -> list[str]:
    """Return one name a dimension; LeRobot allows a list, a dict with one list, or nothing."""
    names = feature.get("names")
    if isinstance(names, dict):
        names = next(iter(names.values()), None)
    size = int(np.prod(feature["shape"]))
    if isinstance(names, list) and len(names) == size:
        return [str(name) for name in names]
    return [str(i) for i in range(size)]


def _stack(column: pa.ChunkedArray, feature: dict[str, Any]) -> Array:
    """Turn a (nested) list column into an array (frames, *shape)."""
    array: Any = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    frames = len(array)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        array = array.flatten()
    values: Array = array.to_numpy(zero_copy_only=False)
    shape = tuple(feature["shape"])
    values = values.reshape(frames, *(() if shape == (1,) else shape))
    if values.dtype == np.bool_:
        return values
    return values.astype(np.float32 if values.dtype.kind == "f" else np.int64, copy=False)
