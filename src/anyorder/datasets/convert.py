"""Converting a LeRobot dataset of version 2.1 to version 3, by LeRobot's own functions, without touching it."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from anyorder.datasets.episodes import episode_borders
from anyorder.datasets.folder import INDEX_COLUMNS, read_columns, read_info
from anyorder.datasets.images import TOLERANCE_S, FrameReader, is_depth
from anyorder.datasets.old_videos import OldVideo, read_video, restamp
from anyorder.errors import DatasetError, bad_value, did_you_mean
from anyorder.files import owned

VERSION = "v2.1"
RECORDED_TIME = "recorded_timestamp"
"""Column that keeps the source's time stamps where the converted ``timestamp`` differs."""


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` made.

    Attributes:
        root: the new dataset.
        episodes: how many.
        frames: how many.
        fps: control rate in Hz.
        shift_s: largest difference between a time stamp of the source and frame number / fps; 0 if within LeRobot's
            tolerance, and then ``timestamp`` is the source's.
        restamped: how many videos were given new time stamps.
    """

    root: Path
    episodes: int
    frames: int
    fps: int
    shift_s: float
    restamped: int


def convert(
    source: str | Path, root: str | Path, videos: Mapping[str, str | Path] | None = None
) -> Conversion:
    """Convert the dataset in the folder ``source`` (v2.1) to a new one (v3) in ``root``.

    The source is only read. Everything is written to a folder beside ``root`` that is renamed in the end, so a kill
    leaves nothing half done.

    LeRobot finds a video frame by its time stamp, frame number / fps. Recordings whose ``timestamp`` column holds
    measured times instead get the former; the measured ones move to the column ``recorded_timestamp``. Videos whose
    frames are not at those times are copied with new time stamps, not encoded again.

    Args:
        source: folder of the old dataset.
        root: folder of the new one; must not exist.
        videos: camera -> folder of its ``episode_*.mp4``, where they are not at their place in ``source``. Height,
            width and codec of these files replace what ``info.json`` says.

    Raises:
        DatasetError: the source is damaged, of another version, or a video does not have one frame a row; ``root``
            exists.
    """
    source, root = Path(source), Path(root)
    if root.exists():
        raise DatasetError(bad_value("root", str(root), "a folder that does not exist yet"))
    with owned(root, "root", new="a new folder"):
        return _convert(source, root, videos or {})


def _convert(source: Path, root: Path, videos: Mapping[str, str | Path]) -> Conversion:
    info = read_old_info(source)
    lengths = read_lengths(source, info)
    old_files = old_videos(source, info, {key: Path(folder) for key, folder in videos.items()}, lengths)
    staging = root.parent / f".{root.name}.converting"
    shutil.rmtree(staging, ignore_errors=True)
    old, new = staging / "v21", staging / root.name
    try:
        shift_s = stage(source, old, info, old_files, lengths)
        run_lerobot(old, new)
        check_new(new)
        new.rename(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    restamped = sum(not video.on_time for files in old_files.values() for video in files)
    return Conversion(root, len(lengths), sum(lengths), info["fps"], shift_s, restamped)


def read_old_info(source: Path) -> dict[str, Any]:
    """Read ``meta/info.json`` and check its version."""
    path = source / "meta" / "info.json"
    try:
        info: dict[str, Any] = json.loads(path.read_text())
        version = info["codebase_version"]
        if version == VERSION:
            info["features"], info["data_path"], info["video_path"]
            fps = info["fps"] = int(info["fps"]) if int(info["fps"]) == info["fps"] else info["fps"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        allowed = f"a LeRobot dataset of version {VERSION} (its meta/info.json cannot be read: {error})"
        raise DatasetError(bad_value("source", str(source), allowed)) from error
    if version != VERSION:
        hint = "; this one needs no conversion" if str(version).startswith("v3.") else ""
        raise DatasetError(bad_value("source version", version, f"{VERSION}{hint}"))
    if not isinstance(fps, int) or fps < 1:
        raise DatasetError(bad_value("source fps", fps, "an integer >= 1, as version v3 needs"))
    return info


def read_lengths(source: Path, info: dict[str, Any]) -> list[int]:
    """Return the frames of every episode, checked against its parquet file."""
    tables = {}
    for name in ("episodes", "episodes_stats", "tasks"):
        path = source / "meta" / f"{name}.jsonl"
        try:
            tables[name] = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        except (OSError, json.JSONDecodeError) as error:
            raise DatasetError(bad_value("source file", str(path), f"whole JSON lines ({error})")) from error
    for name, fields in (("episodes", ("episode_index", "length")), ("episodes_stats", ("episode_index",))):
        for row in tables[name]:
            if not all(isinstance(row.get(field), int) for field in fields):
                allowed = "rows with whole numbers for " + ", ".join(fields)
                raise DatasetError(bad_value(f"source file {name}.jsonl", row, allowed))
    numbers = [row["episode_index"] for row in tables["episodes"]]
    for name, given in (
        ("episodes", numbers),
        ("stats", [r["episode_index"] for r in tables["episodes_stats"]]),
    ):
        if sorted(given) != list(range(len(numbers))) or not numbers:
            allowed = "each of 0 ... episodes - 1 once, in meta/episodes.jsonl and meta/episodes_stats.jsonl"
            raise DatasetError(bad_value(f"source {name}", given[:20], allowed))
    lengths = [int(r["length"]) for r in sorted(tables["episodes"], key=lambda r: r["episode_index"])]
    for episode, length in enumerate(lengths):
        path = source / data_path(info, episode)
        try:
            rows = pq.read_metadata(path).num_rows
            columns = pq.read_schema(path).names
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DatasetError(
                bad_value("source file", str(path), f"a whole parquet file ({reason})")
            ) from error
        missing = sorted({"timestamp", "frame_index", "episode_index"} - set(columns))
        if missing:
            raise DatasetError(bad_value("source file", str(path), f"a file with the columns {missing}"))
        if rows != length:
            allowed = f"{length}, the length of episode {episode} in meta/episodes.jsonl"
            raise DatasetError(bad_value(f"rows of {path}", rows, allowed))
    return lengths


def old_videos(
    source: Path, info: dict[str, Any], folders: Mapping[str, Path], lengths: list[int]
) -> dict[str, list[OldVideo]]:
    """Read every camera's videos by episode, and correct ``info`` by what they are."""
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    for key in folders:
        if key not in cameras:
            allowed = (", ".join(cameras) or "no camera") + did_you_mean(key, cameras)
            raise DatasetError(bad_value("videos", key, allowed))
    videos: dict[str, list[OldVideo]] = {}
    for key in cameras:
        videos[key] = []
        for episode, length in enumerate(lengths):
            path = source / video_path(info, key, episode)
            if key in folders:
                path = folders[key] / path.name
            videos[key].append(read_video(path, length, info["fps"]))
        formats = {video.format for video in videos[key]}
        if len(formats) != 1:
            raise DatasetError(bad_value(f"videos of {key}", sorted(map(str, formats)), "one format for all"))
        (found,) = formats
        feature = info["features"][key]
        feature["shape"] = [found.height, found.width, feature["shape"][2]]
        described = {
            "height": found.height,
            "width": found.width,
            "codec": found.codec,
            "pix_fmt": found.pixels,
        }
        about = {f"video.{name}": value for name, value in {**described, "fps": info["fps"]}.items()}
        feature["info"] = {**(feature.get("info") or {}), **about}
    return videos


def stage(
    source: Path, old: Path, info: dict[str, Any], videos: Mapping[str, list[OldVideo]], lengths: list[int]
) -> float:
    """Lay out a v2.1 dataset in ``old`` that points to the source; return the largest correction of time stamps."""
    (old / "meta").mkdir(parents=True)
    for name in ("episodes", "episodes_stats", "tasks"):
        shutil.copyfile(source / "meta" / f"{name}.jsonl", old / "meta" / f"{name}.jsonl")
    regular = [np.arange(length, dtype=np.float64) / info["fps"] for length in lengths]
    measured = []
    for episode in range(len(lengths)):
        column = pq.read_table(source / data_path(info, episode), columns=["timestamp"])["timestamp"]
        measured.append(np.array(column.to_pylist(), dtype=np.float64).reshape(-1))
    shift_s = max(float(np.abs(m - r).max()) for m, r in zip(measured, regular, strict=True))
    if shift_s < TOLERANCE_S:
        shift_s = 0.0
    else:
        info["features"][RECORDED_TIME] = {"dtype": "float32", "shape": [1], "names": None}
    for episode, times in enumerate(regular):
        origin, place = source / data_path(info, episode), old / data_path(info, episode)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not shift_s:
            place.symlink_to(origin.resolve())
            continue
        table = pq.read_table(origin).replace_schema_metadata(None)
        position = table.schema.get_field_index("timestamp")
        table = table.append_column(RECORDED_TIME, table["timestamp"])
        table = table.set_column(position, "timestamp", pa.array(times.astype(np.float32)))
        pq.write_table(table, place)
    for key, files in videos.items():
        for episode, video in enumerate(files):
            place = old / video_path(info, key, episode)
            place.parent.mkdir(parents=True, exist_ok=True)
            if video.on_time:
                place.symlink_to(video.path.resolve())
            else:
                restamp(video, place, info["fps"])
    info.setdefault("total_chunks", 1)
    info.setdefault("total_videos", sum(map(len, videos.values())))
    (old / "meta" / "info.json").write_text(json.dumps(info, indent=1))
    return shift_s


def check_new(new: Path) -> None:
    """Read the columns of the new dataset, and the first and last frame of every episode of every camera."""
    info = read_info(new)
    cameras = [key for key in info.cameras if not is_depth(info, key)]
    columns = {key: torch.from_numpy(v) for key, v in read_columns(info, list(INDEX_COLUMNS)).items()}
    begins, ends = episode_borders(columns["episode_index"])
    reader = FrameReader(info, cameras, None, columns)
    for key in cameras:
        for row in (*begins.unique().tolist(), *(ends - 1).unique().tolist()):
            reader.read(key, torch.tensor([row]))


def run_lerobot(old: Path, new: Path) -> None:
    """Run the steps of LeRobot's converter that write, and none of those that move folders or use the network."""
    from lerobot.datasets.utils import DEFAULT_DATA_FILE_SIZE_IN_MB, DEFAULT_VIDEO_FILE_SIZE_IN_MB
    from lerobot.scripts import convert_dataset_v21_to_v30 as lerobot

    with quiet():
        lerobot.convert_info(old, new, DEFAULT_DATA_FILE_SIZE_IN_MB, DEFAULT_VIDEO_FILE_SIZE_IN_MB)
        lerobot.convert_tasks(old, new)
        data = lerobot.convert_data(old, new, DEFAULT_DATA_FILE_SIZE_IN_MB)
        videos = lerobot.convert_videos(old, new, DEFAULT_VIDEO_FILE_SIZE_IN_MB)
        lerobot.convert_episodes_metadata(old, new, data, videos)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of LeRobot's steps, and its warnings about fields of the old version."""
    import logging

    from lerobot.scripts import convert_dataset_v21_to_v30 as lerobot
    from lerobot.utils.utils import SuppressProgressBars

    shown, logger = lerobot.tqdm.tqdm, logging.getLogger("lerobot")
    level = logger.level
    lerobot.tqdm.tqdm = lambda items, **_: items
    logger.setLevel(logging.ERROR)
    try:
        with SuppressProgressBars():
            yield
    finally:
        lerobot.tqdm.tqdm = shown
        logger.setLevel(level)


def data_path(info: Mapping[str, Any], episode: int) -> str:
    """Return the place of an episode's parquet file in a v2.1 dataset."""
    chunk = episode // int(info.get("chunks_size", 1000))
    return str(info["data_path"]).format(episode_chunk=chunk, episode_index=episode)


def video_path(info: Mapping[str, Any], key: str, episode: int) -> str:
    """Return the place of an episode's video in a v2.1 dataset."""
    chunk = episode // int(info.get("chunks_size", 1000))
    return str(info["video_path"]).format(episode_chunk=chunk, video_key=key, episode_index=episode)
