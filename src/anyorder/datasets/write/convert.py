"""Converting a LeRobot dataset of version 2.0 or 2.1 to version 3, by LeRobot's own functions, without touching it."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from anyorder.datasets.quiet import quiet, replaced
from anyorder.datasets.read.episodes import episode_borders
from anyorder.datasets.read.folder import INDEX_COLUMNS, read_columns, read_info
from anyorder.datasets.read.images import TOLERANCE_S, FrameReader, is_depth
from anyorder.datasets.read.tables import Array, read_schema, read_table
from anyorder.datasets.write.old_dataset import RECORDED_TIME, OldDataset, OldEpisode, read_old
from anyorder.datasets.write.old_statistics import measure, statistics
from anyorder.datasets.write.old_videos import restamp
from anyorder.errors import DatasetError
from anyorder.folders import becoming, owned

DATA = "data/chunk-{:06d}/episode_{:09d}.parquet"
VIDEO = "videos/chunk-{:06d}/{}/episode_{:09d}.mp4"
"""Files have these places in the dataset that LeRobot's functions convert, whatever the source's are.

Their names sort by number."""
PER_CHUNK = 1000


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
        renumbered: how many episodes have another number than in the source.
        dropped_rows: rows left out at the ends of episodes whose videos are shorter.
        spare_frames: frames at the ends of videos that no row asks for.
        described: features whose statistics the source lacks.
    """

    root: Path
    episodes: int
    frames: int
    fps: int
    shift_s: float
    restamped: int
    renumbered: int = 0
    dropped_rows: int = 0
    spare_frames: int = 0
    described: tuple[str, ...] = ()


def convert(source: str | Path, root: str | Path, videos: Mapping[str, str | Path] | None = None) -> Conversion:
    """Convert the dataset in the folder ``source`` (v2.0, v2.1) to a new one (v3) in ``root``.

    The source is only read. Everything is written to a folder beside ``root`` that is renamed in the end, so a kill
    leaves nothing half done.

    LeRobot finds a video frame by its time stamp, frame number / fps. Recordings whose ``timestamp`` column holds
    measured times instead get the former; the measured ones move to the column ``recorded_timestamp``. Videos whose
    frames are not at those times are copied with new time stamps, not encoded again.

    Episodes are numbered 0, 1, 2, ... in their order, rows likewise. Statistics that the source lacks are computed.

    Args:
        source: folder of the old dataset.
        root: folder of the new one; must not exist.
        videos: camera -> folder of its ``episode_*.mp4``, where they are not at their place in ``source``. Height,
            width and codec of these files replace what ``info.json`` says.

    Raises:
        DatasetError: the source is damaged, of another version, or a video does not have one frame a row; ``root``
            exists, or one of the two folders is inside the other.
    """
    source, root = Path(source), Path(root)
    staging = root.parent / f".{root.name}.converting"
    check_places(source, root, staging)
    with owned(root, "root", new="a new folder"):
        return _convert(source, root, staging, videos or {})


def _convert(source: Path, root: Path, staging: Path, videos: Mapping[str, str | Path]) -> Conversion:
    old = read_old(source, {key: Path(folder) for key, folder in videos.items()})
    shutil.rmtree(staging, ignore_errors=True)
    staged = staging / "v21"
    try:
        shift_s, described = stage(old, staged)
        with becoming(root, staging / root.name) as new:
            run_lerobot(staged, new, source)
            check_new(new)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    films = [(video, old.episodes[i]) for files in old.videos.values() for i, video in enumerate(files)]
    return Conversion(
        root,
        len(old.episodes),
        sum(episode.length for episode in old.episodes),
        old.info["fps"],
        shift_s,
        restamped=sum(not video.on_time for video, _ in films),
        renumbered=sum(episode.number != i for i, episode in enumerate(old.episodes)),
        dropped_rows=sum(episode.rows - episode.length for episode in old.episodes),
        spare_frames=sum(video.frames - episode.length for video, episode in films),
        described=tuple(described),
    )


def check_places(source: Path, root: Path, staging: Path) -> None:
    """Refuse folders of which one would be written inside the other."""
    if root.exists() or root.is_symlink():
        raise DatasetError("root", str(root), "a folder that does not exist yet")
    there, here = source.resolve(), root.resolve()
    for folder in (here, staging.resolve()):
        if folder == there or folder in there.parents or there in folder.parents:
            raise DatasetError("root", str(root), f"a folder outside of the source {source}")


def stage(old: OldDataset, staged: Path) -> tuple[float, list[str]]:
    """Lay out a v2.1 dataset in ``staged`` that points to the source where it is as LeRobot's functions need it.

    Returns the largest correction of time stamps in seconds, and the features whose statistics were computed.
    """
    (staged / "meta").mkdir(parents=True)
    info, fps = old.info, old.info["fps"]
    shift_s = max(shift(episode, fps) for episode in old.episodes)
    if shift_s < TOLERANCE_S:
        shift_s = 0.0
    else:
        info["features"][RECORDED_TIME] = {"dtype": "float32", "shape": [1], "names": None}
    task_numbers = {number: i for i, number in enumerate(sorted(old.tasks))}
    start = 0
    for i, episode in enumerate(old.episodes):
        place = staged / DATA.format(i // PER_CHUNK, i)
        place.parent.mkdir(parents=True, exist_ok=True)
        moments = np.arange(episode.length)
        wanted = {
            "episode_index": np.full(episode.length, i),
            "frame_index": moments,
            "index": start + moments,
            "task_index": np.array([task_numbers[task] for task in episode.task[: episode.length].tolist()]),
        }
        if shift_s:
            wanted[RECORDED_TIME] = episode.times[: episode.length].astype(np.float32)
            wanted["timestamp"] = (moments / fps).astype(np.float32)
        stage_rows(episode, place, wanted)
        start += episode.length
    for key, files in old.videos.items():
        for i, video in enumerate(files):
            place = staged / VIDEO.format(i // PER_CHUNK, key, i)
            place.parent.mkdir(parents=True, exist_ok=True)
            if video.on_time:
                place.symlink_to(video.path.resolve())
            else:
                restamp(video, place, fps)
    for key, feature in info["features"].items():
        if feature["dtype"] == "image":
            measure(feature, key, staged / DATA.format(0, 0))
    tables = [staged / DATA.format(i // PER_CHUNK, i) for i in range(len(old.episodes))]
    stats, described = statistics(old, tables)
    count = len(old.episodes)
    rows = [{**e.about, "episode_index": i, "length": e.length} for i, e in enumerate(old.episodes)]
    write_lines(staged, "episodes", rows)
    write_lines(staged, "episodes_stats", [{"episode_index": i, "stats": s} for i, s in enumerate(stats)])
    write_lines(staged, "tasks", [{"task_index": i, "task": old.tasks[n]} for n, i in task_numbers.items()])
    counts = {"total_episodes": count, "total_frames": start, "total_tasks": len(old.tasks)}
    counts |= {"total_chunks": 1, "total_videos": count * len(old.videos)}
    paths = {"data_path": DATA, "video_path": VIDEO if old.videos else None, "splits": {"train": f"0:{count}"}}
    (staged / "meta" / "info.json").write_text(json.dumps({**info, **counts, **paths}, indent=1))
    return shift_s, described


def shift(episode: OldEpisode, fps: int) -> float:
    """Return how far an episode's time stamps are from frame number / fps at most, in seconds."""
    off = np.abs(episode.times - np.arange(episode.rows) / fps)
    return float(np.where(np.isfinite(off), off, np.inf).max())


def stage_rows(episode: OldEpisode, place: Path, wanted: Mapping[str, Array]) -> None:
    """Lay out an episode's rows with the ``wanted`` columns: its own file, if that is so already."""
    names = read_schema(episode.path, ()).names
    same = episode.length == episode.rows and set(wanted) <= set(names)
    if same:
        table = read_table(episode.path, list(wanted))
        same = all(table.column(key).to_pylist() == values.tolist() for key, values in wanted.items())
    if same:
        place.symlink_to(episode.path.resolve())
        return
    table = read_table(episode.path).replace_schema_metadata(None).slice(0, episode.length)
    for key, values in wanted.items():
        position = table.schema.get_field_index(key)
        column = pa.array(values)
        table = table.append_column(key, column) if position < 0 else table.set_column(position, key, column)
    pq.write_table(table, place)


def write_lines(staged: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Write ``meta/<name>.jsonl``."""
    (staged / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


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


def run_lerobot(old: Path, new: Path, source: Path) -> None:
    """Run the steps of LeRobot's converter that write, and none of those that move folders or use the network.

    Raises:
        DatasetError: one of them fails; ``source`` is what the message names.
    """
    from datasets.exceptions import DatasetsError
    from lerobot.datasets.utils import DEFAULT_DATA_FILE_SIZE_IN_MB, DEFAULT_VIDEO_FILE_SIZE_IN_MB
    from lerobot.scripts import convert_dataset_v21_to_v30 as lerobot
    from lerobot.utils.utils import SuppressProgressBars

    try:
        # It would warn about fields of the old version.
        with quiet("lerobot"), SuppressProgressBars(), replaced(lerobot.tqdm, "tqdm", lambda items, **_: items):
            lerobot.convert_info(old, new, DEFAULT_DATA_FILE_SIZE_IN_MB, DEFAULT_VIDEO_FILE_SIZE_IN_MB)
            lerobot.convert_tasks(old, new)
            data = lerobot.convert_data(old, new, DEFAULT_DATA_FILE_SIZE_IN_MB)
            videos = lerobot.convert_videos(old, new, DEFAULT_VIDEO_FILE_SIZE_IN_MB)
            lerobot.convert_episodes_metadata(old, new, data, videos)
    except (LookupError, TypeError, ValueError, AttributeError, pa.ArrowException, DatasetsError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        allowed = f"one that LeRobot's converter takes ({type(error).__name__}: {reason})"
        raise DatasetError("source", str(source), allowed) from error
