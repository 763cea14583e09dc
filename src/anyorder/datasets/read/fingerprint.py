"""What a run learns from, in a few numbers and digests, so that one which goes on can tell whether it still is that."""

import hashlib
from collections.abc import Mapping
from typing import Any

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.images import FrameReader
from anyorder.errors import DatasetError
from anyorder.files import Words, digest


def fingerprint(*parts: ActionChunks) -> dict[str, Any]:
    """Describe the data in some chunks, so that any change of it shows.

    Columns count by their values, in order. The pictures of cameras count by what their files are called, how large
    these are and where in them an episode begins: to read them all would take minutes. ``parts`` are the splits of one
    dataset or mixture, in an order that the caller keeps. Returns counts as they are and digests of the rest, by name.
    """
    first = parts[0]
    found: dict[str, Any] = {
        "episodes": [part.episodes for part in parts],
        "frames": [part.frames for part in parts],
        "fps": first.fps,
    }
    for key in first.shapes:
        features = [info.features.get(key) for info in first.infos]
        known = [{} if f is None else {k: f.get(k) for k in ("dtype", "shape", "names")} for f in features]
        found[f"description of {key}"] = digest(known)
    for key in first.columns:
        hashed = hashlib.sha256()
        for part in parts:
            hashed.update(part.columns[key].contiguous().cpu().numpy().tobytes())
        found[f"values of {key}"] = hashed.hexdigest()
    tasks = {int(task) for part in parts for task in part.columns["task_index"].unique()}
    found["tasks"] = digest([first.tasks[i] for i in sorted(tasks)])
    if first.cameras is not None:
        for key in first.cameras.shapes:
            files = [_files(reader, key) for reader in first.cameras.readers]
            found[f"files of {key}"] = digest(files)
    return found


def check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], run: str) -> None:
    """Compare the fingerprint ``before``, as ``run`` began, with the one as it wants to go on.

    Raises:
        DatasetError: names the first difference.
    """
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            counts = isinstance(before.get(name), int | list) and isinstance(now.get(name), int | list)
            given, there = (now[name], f"{before[name]}, ") if counts else (Words("something else"), "")
            allowed = f"{there}as when {run} began; with another output_dir a new run learns from it"
            raise DatasetError(f"{name} in the dataset", given, allowed)


def _files(reader: FrameReader, key: str) -> list[Any]:
    """Return name and size of every file that a camera's frames are read from, and where episodes begin in it."""
    root = reader.info.root
    if key not in reader.keys:
        return []
    if key not in reader.places:
        return [[str(p.relative_to(root)), p.stat().st_size] for p in sorted(root.glob("data/*/*.parquet"))]
    held = sorted({int(episode) for episode in reader.episode.unique()})
    places = [(episode, reader.places[key][episode]) for episode in held]
    return [[e, str(p.path.relative_to(root)), p.path.stat().st_size, p.start_s] for e, p in places]
