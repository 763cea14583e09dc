"""Reading the low-dimensional columns of a LeRobot dataset (v3) straight from its parquet files.

LeRobot's own reader turns every element into a tensor of its own; columns stacked once are about 1000 times
faster (``benchmarks/bench_loader.py``) and hold the same values.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anyorder.datasets.quiet import VIDEO_BACKEND, quiet
from anyorder.datasets.read.metadata import check_count, check_features, check_rate, check_shape, load_info
from anyorder.datasets.read.tables import Array, parquet_files, read_table, stack
from anyorder.errors import DatasetError, did_you_mean
from anyorder.files import Words
from anyorder.hub import asking_hub

INDEX_COLUMNS = ("index", "episode_index", "frame_index", "timestamp", "task_index")
MOST_EPISODES, MOST_FRAMES = 10**7, 2**40
OLD_VERSIONS = ("v2.0", "v2.1")
"""The versions of datasets that ``anyorder convert`` reads."""


@dataclass(frozen=True)
class DatasetInfo:
    """The part of ``meta/info.json`` that reading needs, checked."""

    root: Path
    fps: float
    features: dict[str, dict[str, Any]]
    total_episodes: int
    total_frames: int
    video_path: str = ""
    """Pattern of the video files, with video_key, chunk_index and file_index."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Of renamed features: what the dataset's own files call them."""

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
            if feature["dtype"].startswith(numeric) and key not in INDEX_COLUMNS
        ]

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a feature's frame, checked."""
        if key in INDEX_COLUMNS:
            return (1,)
        return check_shape(self.features[key], f"shape of {key} in {self.root / 'meta' / 'info.json'}")

    def source(self, key: str) -> str:
        """Return what the dataset's own files call a feature."""
        return self.sources.get(key, key)

    def renamed(self, names: Mapping[str, str], setting: str = "dataset.rename") -> "DatasetInfo":
        """Return it with new names for some features, by the dataset's own; a message calls them ``setting``.

        Raises:
            DatasetError: there is no such feature, or two get one name.
        """
        for old, new in names.items():
            if old not in self.features:
                raise DatasetError(setting, old, ", ".join(self.features) + did_you_mean(old, self.features))
            taken = [key for key in self.features if names.get(key, key) == new]
            if len(taken) > 1 or not new or {old, new} & set(INDEX_COLUMNS):
                raise DatasetError(f"{setting} of {old}", new, f"a name of its own, beside {', '.join(self.features)}")
        features = {names.get(key, key): feature for key, feature in self.features.items()}
        sources = {new: self.source(old) for old, new in names.items()}
        return dataclasses.replace(self, features=features, sources={**self.sources, **sources})


def resolve_root(root: str | Path | None, repo_id: str | None, *, images: bool, field: str = "dataset.repo_id") -> Path:
    """Return the folder of a dataset: ``root``, or ``repo_id`` in LeRobot's cache, downloaded if need be.

    ``field`` is what a message calls ``repo_id``.

    Raises:
        DatasetError: neither was given, or the hub does not answer.
    """
    if root is not None:
        return Path(root)
    if repo_id is None:
        raise DatasetError("dataset.root", None, "a dataset folder, or dataset.repo_id with its name on the hub")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.datasets.utils import CompatibilityError
    from lerobot.utils.constants import HF_LEROBOT_HOME

    cached = HF_LEROBOT_HOME / repo_id
    if (cached / "meta" / "info.json").is_file():
        return Path(cached)
    allowed = f"a folder below {HF_LEROBOT_HOME}, or a dataset that the hub gives out"
    offline = f"without network {field.replace('repo_id', 'root')}=FOLDER reads one that was downloaded before"
    refused = (ValueError, RuntimeError, CompatibilityError)
    with asking_hub(DatasetError, field, repo_id, allowed, *refused, offline=offline), quiet(VIDEO_BACKEND):
        return Path(LeRobotDataset(repo_id, download_videos=images).root)


def read_info(root: Path, field: str = "dataset.root") -> DatasetInfo:
    """Read and check ``meta/info.json`` of the dataset folder ``root``; ``field`` is what a message calls it.

    Raises:
        DatasetError: no such folder, no LeRobot dataset in it, an older version, or nothing recorded yet.
    """
    path = root / "meta" / "info.json"
    if not root.is_dir():
        raise DatasetError(field, str(root), "the folder of a LeRobot dataset")
    info = load_info(root, field, "v3.0")
    version = info.get("codebase_version")
    if not isinstance(version, str) or not version.startswith("v3."):
        older = f"; {' and '.join(OLD_VERSIONS)} become it by: anyorder convert source={root} root=<new folder>"
        raise DatasetError("dataset version", version, f"v3.0{older if version in OLD_VERSIONS else ''}")
    pattern = info.get("video_path") or ""
    if not isinstance(pattern, str):
        raise DatasetError(f"video_path in {path}", pattern, "text, or null")
    found = DatasetInfo(
        root,
        check_rate(info.get("fps"), f"fps in {path}"),
        check_features(info, path),
        check_count(info, "total_episodes", path, MOST_EPISODES),
        check_count(info, "total_frames", path, MOST_FRAMES),
        pattern,
    )
    if found.total_episodes < 1:
        raise DatasetError("dataset episodes", found.total_episodes, "at least one episode")
    return found


def read_columns(info: DatasetInfo, keys: Sequence[str], partial: bool = False) -> dict[str, Array]:
    """Stack columns over all files.

    Args:
        info: the dataset.
        keys: which columns, ``episode_index`` among them.
        partial: accept that some files are not there, as where only some episodes were downloaded.

    Returns:
        For every key an array (frames, *shape): float32, int64 or bool, the types LeRobot's loader makes of
        them. A feature of shape (1,) gives (frames,), as there. ``index`` is each row's place in the files, whatever
        they hold under that name. Rows beyond ``info.total_episodes`` are left out: a recording that was cut off may
        have them.

    Raises:
        DatasetError: a file is damaged, or frames are missing.
    """
    files = parquet_files(info.root / "data")
    if not files:
        raise DatasetError("dataset files", f"{info.root}/data", "at least one parquet file")
    wanted = [key for key in keys if key != "index"]
    parts: dict[str, list[Array]] = {key: [] for key in wanted}
    for file in files:
        table = read_table(file, [info.source(key) for key in wanted])
        for key in wanted:
            values = stack(table.column(info.source(key)), info.shape(key), f"{info.source(key)} in {file}")
            if key.endswith("_index") and key in INDEX_COLUMNS and values.dtype != np.int64:
                raise DatasetError(f"{key} in {file}", Words(str(values.dtype)), "integers")
            parts[key].append(values)
    columns = {key: np.concatenate(values) for key, values in parts.items()}
    if "index" in keys:
        columns["index"] = np.arange(len(columns["episode_index"]))
    keep = rows_of(info, columns["episode_index"], partial)
    return columns if keep.all() else {key: values[keep] for key, values in columns.items()}


def rows_of(info: DatasetInfo, episode: Array, partial: bool) -> Array:
    """Return which rows belong to the dataset's episodes: (rows,) bool.

    ``episode`` (rows,) int64 holds any numbers, as long as they are as many as the metadata says. ``partial`` accepts
    that rows are missing.

    Raises:
        DatasetError: frames are missing, or there are too many.
    """
    numbers = np.unique(episode)
    if len(numbers) and numbers[0] < 0:
        raise DatasetError(f"episode_index in {info.root / 'data'}", int(numbers[0]), "integers >= 0")
    if len(numbers) == info.total_episodes and len(episode) == info.total_frames:
        return np.ones(len(episode), dtype=bool)
    keep: Array = episode < info.total_episodes
    if int(keep.sum()) != info.total_frames and not partial:
        allowed = f"{info.total_frames} of {info.total_episodes} episodes, as its meta/info.json says"
        if gaps := missing_numbers(numbers.tolist()):
            allowed += f"; of the episodes {numbers[0]} ... {numbers[-1]} these are missing: {gaps}"
        raise DatasetError("dataset frames", int(keep.sum()), allowed)
    return keep


def missing_numbers(numbers: Sequence[int]) -> str:
    """Return which numbers between those there are missing, in words, the first eight of them.

    >>> missing_numbers([0, 1, 2, 5, 6, 9])
    '3, 4, 7, 8'
    """
    there, found = set(numbers), list[int]()
    for number in sorted(there):
        missing = number + 1
        while missing not in there and number < max(there) and len(found) <= 8:
            found.append(missing)
            missing += 1
    return ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")


def vector_keys(info: DatasetInfo, features: Sequence[str] | None) -> list[str]:
    """Return the numeric features to read: ``action`` and those asked for, or all.

    Raises:
        DatasetError: there are no actions, or a feature does not exist or is not numeric.
    """
    if "action" not in info.vectors:
        close = [key for key in info.vectors if key.startswith("action")]
        hint = f" (dataset.rename={{{close[0]}: action}} calls {close[0]} so)" if close else ""
        raise DatasetError("dataset features", sorted(info.features), f"features with an 'action' of numbers{hint}")
    if features is None:
        return info.vectors
    for key in features:
        if key not in info.vectors:
            raise DatasetError("feature", key, ", ".join(info.vectors) + did_you_mean(key, info.vectors))
    return [key for key in info.vectors if key in features or key == "action"]


def named_info(dataset: str, rename: Mapping[str, str]) -> DatasetInfo:
    """Return the head of a dataset with actions, a folder or a name on the hub, some features renamed.

    Raises:
        UserError: there is none, or it has no actions.
    """
    folder = Path(dataset)
    named = not folder.is_dir() and dataset.count("/") == 1
    root = resolve_root(None if named else folder, dataset if named else None, images=False, field="dataset")
    info = read_info(root, "dataset").renamed(rename, "rename")
    vector_keys(info, [])
    return info
