"""What a LeRobot dataset of version 2.0 or 2.1 holds, read and checked before anything is made of it."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from anyorder.datasets.read.folder import OLD_VERSIONS
from anyorder.datasets.read.metadata import check_features, check_shape, file_of, load_info
from anyorder.datasets.read.tables import Array, damaged, read_schema, read_table, stack, whole_numbers
from anyorder.datasets.write.old_videos import OldVideo, read_video
from anyorder.errors import DatasetError, did_you_mean
from anyorder.files import Words
from anyorder.folders import inside

SPARE_S = 0.2
"""A video may be longer or shorter than its episode by this many seconds, as recorders stop one by one."""
RECORDED_TIME = "recorded_timestamp"
"""This column keeps the source's time stamps where the converted ``timestamp`` differs."""
COLORS = ("channel", "channels")


@dataclass(frozen=True)
class OldEpisode:
    """One episode of the source.

    Attributes:
        number: the source's, which may leave gaps.
        path: of its parquet file.
        rows: in that file.
        length: how many of them are kept, the first ones.
        about: its row of ``meta/episodes.jsonl``.
        stats: of its features, as far as the source has them.
        times: (rows,) the column ``timestamp``.
        task: (rows,) the column ``task_index``.
    """

    number: int
    path: Path
    rows: int
    length: int
    about: dict[str, Any]
    stats: dict[str, Any]
    times: Array
    task: Array


@dataclass(frozen=True)
class OldDataset:
    """A dataset of version 2: ``meta/info.json``, episodes by number, sentences by task index, and a video an episode
    by camera.
    """

    info: dict[str, Any]
    episodes: list[OldEpisode]
    tasks: dict[int, str]
    videos: dict[str, list[OldVideo]]


def read_old(source: Path, folders: Mapping[str, Path]) -> OldDataset:
    """Read a dataset of version 2.0 or 2.1; ``folders`` are those of cameras whose videos are elsewhere.

    Episodes end with the shortest of their rows and videos, where these differ by little; shapes of cameras and what is
    said of their videos become what the files are.

    Raises:
        DatasetError: it is damaged, of another version, or a video has another number of frames than its episode rows.
    """
    info = read_old_info(source)
    tasks = {row["task_index"]: str(row["task"]) for row in read_lines(source, "tasks", ("task_index", "task"))}
    episodes = read_episodes(source, info, tasks)
    videos = read_videos(source, info, folders, episodes)
    kept = [
        replace(episode, length=min([episode.rows, *(files[i].frames for files in videos.values())]))
        for i, episode in enumerate(episodes)
    ]
    return OldDataset(info, kept, tasks, videos)


def read_old_info(source: Path) -> dict[str, Any]:
    """Read ``meta/info.json`` and check its version, and what paths are made from."""
    path, versions = source / "meta" / "info.json", " or ".join(OLD_VERSIONS)
    info = load_info(source, "source", versions)
    version = info.get("codebase_version")
    if version not in OLD_VERSIONS:
        hint = "; this one needs no conversion" if str(version).startswith("v3.") else ""
        raise DatasetError("source version", version, f"{versions}{hint}")
    fps, chunk = info.get("fps"), info.setdefault("chunks_size", 1000)
    if isinstance(fps, bool) or not isinstance(fps, int | float) or fps != int(fps) or not 1 <= fps <= 10_000:
        raise DatasetError("source fps", fps, "an integer >= 1, as version v3 needs")
    info["fps"] = int(fps)
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise DatasetError("source chunks_size", chunk, "an integer >= 1")
    for key, feature in check_features(info, path).items():
        if feature["dtype"] in ("image", "video"):
            feature["shape"] = list(check_shape(feature, f"shape of {key} in {path}"))
            # It becomes a folder, and LeRobot searches for it as a pattern.
            if inside(Path(), key, f"camera in {path}", DatasetError) != Path(Path(key).name) or set(key) & set(
                "\\*?[]"
            ):
                raise DatasetError(f"camera in {path}", key, "a name without / \\ * ? [ ]")
    films = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    for name, needed in (("data_path", True), ("video_path", bool(films))):
        if needed and not isinstance(info.get(name), str):
            raise DatasetError(f"{name} in {path}", info.get(name), "a pattern of paths")
    return info


def read_lines(source: Path, name: str, fields: tuple[str, ...]) -> list[dict[str, Any]]:
    """Read the objects in ``meta/<name>.jsonl``, each with ``fields``, of which numbers are whole and come once.

    Raises:
        DatasetError: the file is missing or damaged, or a row is not like that.
    """
    path = source / "meta" / f"{name}.jsonl"
    rows = []
    try:
        for line in path.read_text(encoding="utf-8-sig").splitlines():
            if line.strip():
                rows.append(json.loads(line))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, "whole JSON lines", str(error)) from error
    for row in rows:
        whole = isinstance(row, dict) and all(field in row for field in fields)
        numbers = [row[field] for field in fields if field.endswith(("_index", "length"))] if whole else []
        if not whole or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            allowed = f"rows with {', '.join(fields)}, whole numbers"
            raise DatasetError(f"source file {path.name}", Words(str(row)[:120]), allowed)
    found = Counter(row[fields[0]] for row in rows)
    for number, times in found.items():
        if times > 1:
            raise DatasetError(f"{fields[0]} in {path}", Words(f"{number} twice"), "each once")
    if not found:
        raise DatasetError(f"rows of {path}", 0, "at least one")
    return sorted(rows, key=lambda row: int(row[fields[0]]))


def read_episodes(source: Path, info: dict[str, Any], tasks: Mapping[int, str]) -> list[OldEpisode]:
    """Read the table of episodes, and of each the columns that say where its rows belong.

    A file of statistics need not be there: version 2.0 has none.
    """
    rows = read_lines(source, "episodes", ("episode_index", "length"))
    stats: dict[int, Any] = {}
    if (source / "meta" / "episodes_stats.jsonl").exists():
        lines = read_lines(source, "episodes_stats", ("episode_index", "stats"))
        stats = {row["episode_index"]: row["stats"] for row in lines}
    episodes = []
    for row in rows:
        number = row["episode_index"]
        values = {"episode_chunk": number // info["chunks_size"], "episode_index": number}
        path = file_of(source, info["data_path"], "source data_path", **values)
        schema = read_schema(path, ["timestamp"])
        known = [name for name in ("timestamp", "task_index") if name in schema.names]
        table = read_table(path, known)
        if table.num_rows != row["length"] or not table.num_rows:
            allowed = f"{row['length']}, the length of episode {number} in meta/episodes.jsonl"
            raise DatasetError(f"rows of {path}", table.num_rows, allowed)
        times = stack(table.column("timestamp"), (1,), f"timestamp in {path}").astype(np.float64)
        task = task_of(table, path, tasks)
        found = stats.get(number)
        about = {**row, "tasks": sentences(row, task, tasks)}
        here = found if isinstance(found, dict) else {}
        episodes.append(OldEpisode(number, path, table.num_rows, table.num_rows, about, here, times, task))
    return episodes


def task_of(table: pa.Table, path: Path, tasks: Mapping[int, str]) -> Array:
    """Return the task of each row: (rows,) int64."""
    if "task_index" not in table.column_names:
        if len(tasks) > 1:
            allowed = "a column that says which of them a row belongs to"
            raise DatasetError(f"task_index in {path}", Words(f"none, of {len(tasks)} tasks"), allowed)
        return np.full(table.num_rows, next(iter(tasks)))
    found = np.array(whole_numbers(table, "task_index", path))
    if unknown := sorted(set(found.tolist()) - set(tasks)):
        raise DatasetError(f"task_index in {path}", unknown[0], "one of meta/tasks.jsonl")
    return found


def sentences(row: Mapping[str, Any], task: Array, tasks: Mapping[int, str]) -> list[str]:
    """Return the tasks of an episode, as its row says them or as its frames have them."""
    said = row.get("tasks")
    if isinstance(said, list) and all(isinstance(one, str) for one in said):
        return said
    return [tasks[number] for number in dict.fromkeys(task.tolist())]


def read_videos(
    source: Path, info: dict[str, Any], folders: Mapping[str, Path], episodes: list[OldEpisode]
) -> dict[str, list[OldVideo]]:
    """Read every camera's videos by episode, and correct ``info`` by what they are."""
    cameras = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    for key in folders:
        if key not in cameras:
            raise DatasetError("videos", key, (", ".join(cameras) or "no camera") + did_you_mean(key, cameras))
    videos: dict[str, list[OldVideo]] = {}
    spare = max(1, int(SPARE_S * info["fps"]))
    for key in cameras:
        known = info["features"][key].get("info") or info["features"][key].pop("video_info", None)
        known = known if isinstance(known, dict) else {}
        depth = known.get("is_depth_map") or known.get("video.is_depth_map")
        sampled = not depth and not all(has_stats(episode.stats.get(key)) for episode in episodes)
        videos[key] = []
        for episode in episodes:
            values = {"episode_chunk": episode.number // info["chunks_size"], "episode_index": episode.number}
            path = file_of(source, info["video_path"], "source video_path", video_key=key, **values)
            if key in folders:
                path = folders[key] / path.name
            video = read_video(path, episode.rows, info["fps"], sampled)
            if abs(video.frames - episode.rows) > spare or not video.frames:
                allowed = (
                    f"{episode.rows}, the rows of episode {episode.number}, or at most {spare} more or less; without "
                    f"its line in meta/episodes.jsonl the episode is left out"
                )
                raise DatasetError(f"frames of {path}", video.frames, allowed)
            videos[key].append(video)
        formats = {video.format for video in videos[key]}
        if len(formats) != 1:
            raise DatasetError(f"videos of {key}", Words(", ".join(sorted(map(str, formats)))), "one format for all")
        (found,) = formats
        feature = info["features"][key]
        feature["shape"] = [found.height, found.width, channels(feature)]
        feature["names"] = ["height", "width", "channels"]
        described = {"height": found.height, "width": found.width, "codec": found.codec, "pix_fmt": found.pixels}
        about = {f"video.{name}": value for name, value in {**described, "fps": info["fps"]}.items()}
        feature["info"] = {**known, **about}
    return videos


def channels(feature: Mapping[str, Any]) -> int:
    """Return how many colors a camera has, whichever way round its shape is.

    >>> channels({"shape": [3, 48, 64], "names": ["channel", "height", "width"]}), channels({"shape": [48, 64, 1]})
    (3, 1)
    >>> channels({"shape": [3, 48, 64], "names": None})
    3
    """
    shape, names = feature["shape"], feature.get("names")
    if isinstance(names, list) and len(names) == len(shape):
        for size, name in zip(shape, names, strict=True):
            if name in COLORS:
                return int(size)
    return int(shape[2] if shape[2] in (1, 3, 4) or shape[0] not in (1, 3, 4) else shape[0])


def has_stats(found: Any) -> bool:
    """Whether statistics of a feature are there as LeRobot needs them."""
    return isinstance(found, dict) and {"min", "max", "mean", "std", "count"} <= set(found)
