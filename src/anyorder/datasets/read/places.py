"""The tables below ``meta/`` of a dataset: in which video each episode is, and what the tasks are."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from anyorder.datasets.read.folder import DatasetInfo
from anyorder.datasets.read.metadata import file_of
from anyorder.datasets.read.tables import entries, parquet_files, read_table, whole_numbers
from anyorder.errors import DatasetError
from anyorder.files import Words


@dataclass(frozen=True)
class VideoPlace:
    """Where an episode's frames of one camera are."""

    path: Path
    start_s: float


def video_places(
    info: DatasetInfo, camera: str, partial: bool = False, episodes: Collection[int] | None = None
) -> dict[int, VideoPlace]:
    """Read from the episode tables in which video file of a camera, and from when on, each episode is.

    ``partial`` leaves out the episodes whose file is not there, as where only some were downloaded; ``episodes`` are
    those that are needed, None for as many as the dataset has.

    Raises:
        DatasetError: a table is damaged or says nothing about this camera, or a video file is missing.
    """
    source = info.source(camera)
    chunk, number, start = (f"videos/{source}/{name}" for name in ("chunk_index", "file_index", "from_timestamp"))
    needed = set(range(info.total_episodes) if episodes is None else episodes)
    places: dict[int, VideoPlace] = {}
    for file in parquet_files(info.root / "meta" / "episodes"):
        table = read_table(file, ["episode_index", chunk, number, start])
        counted = (whole_numbers(table, name, file) for name in ("episode_index", chunk, number))
        for episode, in_chunk, in_file, start_s in zip(*counted, entries(table, start, file), strict=True):
            if episode not in needed and episodes is not None:
                continue
            if not isinstance(start_s, int | float) or not 0 <= start_s < math.inf:
                raise DatasetError(f"{start} in {file}", start_s, "seconds, >= 0")
            keys = {"video_key": source, "chunk_index": in_chunk, "file_index": in_file}
            path = file_of(info.root, info.video_path, f"video_path in {info.root / 'meta' / 'info.json'}", **keys)
            place = VideoPlace(path, float(start_s))
            if places.setdefault(episode, place) != place:
                raise DatasetError(f"rows of episode {episode} in {file}", Words("two"), "one row an episode")
    if partial:
        return {episode: place for episode, place in places.items() if place.path.is_file()}
    for path in dict.fromkeys(place.path for place in places.values()):
        if not path.is_file():
            raise DatasetError("video file", str(path), "a file, which the dataset's tables name")
    missing = sorted(needed - set(places))
    if missing:
        raise DatasetError(f"episodes of {camera} without a video", missing[:8], "none")
    return places


def task_names(root: Path, used: Collection[int]) -> dict[int, str]:
    """Return the sentences of tasks by their numbers, in order.

    Args:
        root: the dataset's folder.
        used: the indices that frames have; a row that no frame uses may lack its sentence, and is then left out.

    Raises:
        DatasetError: the table is damaged, or a frame's task is not in it.
    """
    path = root / "meta" / "tasks.parquet"
    table = read_table(path)
    # pandas calls an unnamed index __index_level_0__, which is what converted datasets carry.
    names = [n for n in ("task", "__index_level_0__") if n in table.column_names]
    names = names or [name for name in table.column_names if name != "task_index"]
    if not names or "task_index" not in table.column_names:
        raise DatasetError("dataset file", str(path), "a table with the columns task_index and task")
    sentences = entries(table, names[0], path)
    found = dict(zip(whole_numbers(table, "task_index", path), sentences, strict=True))
    for number in sorted(used):
        if not isinstance(found.get(number), str):
            allowed = "a sentence for every task_index of the data"
            raise DatasetError(f"task {number} in {path}", found.get(number), allowed)
    return {number: found[number] for number in sorted(found) if isinstance(found[number], str)}
