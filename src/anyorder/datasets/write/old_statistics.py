"""Statistics of an older dataset's episodes, which version 3 needs and some sources lack; shapes of its pictures."""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from anyorder.datasets.read.folder import INDEX_COLUMNS
from anyorder.datasets.read.tables import Array, read_schema, read_table, stack
from anyorder.datasets.write.old_dataset import RECORDED_TIME, OldDataset, has_stats
from anyorder.errors import DatasetError
from anyorder.files import Words

NUMBERS = ("float", "int", "uint", "bool")


def measure(feature: dict[str, Any], key: str, file: Path) -> None:
    """Let the description of a camera of pictures say height, width and channels as its first picture has them."""
    first = pixels_of(read_table(file, [key]).column(key), 0, key)
    feature["shape"], feature["names"] = list(first.shape), ["height", "width", "channels"]


def statistics(old: OldDataset, files: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the statistics of every episode, and the features for which they were computed.

    The source's are kept for a feature if every episode has them and none was cut. ``files`` hold each episode's rows,
    as they will be.
    """
    from lerobot.datasets.compute_stats import get_feature_stats

    found: list[dict[str, Any]] = [{} for _ in old.episodes]
    computed = []
    for key, feature in old.info["features"].items():
        camera = feature["dtype"] in ("image", "video")
        kept = all(has_stats(e.stats.get(key)) and (camera or e.length == e.rows) for e in old.episodes)
        if kept and key not in INDEX_COLUMNS:
            for stats, episode in zip(found, old.episodes, strict=True):
                stats[key] = episode.stats[key]
            continue
        arrays = samples(old, files, key, feature)
        if arrays is None:
            continue
        for stats, array in zip(found, arrays, strict=True):
            axes = (0, 2, 3) if camera else 0
            made = get_feature_stats(array, axis=axes, keepdims=camera or array.ndim == 1)
            if camera:
                made = {k: v if k == "count" else np.squeeze(v / 255, axis=0) for k, v in made.items()}
            stats[key] = {name: np.asarray(values).tolist() for name, values in made.items()}
        if key not in (*INDEX_COLUMNS, RECORDED_TIME):
            computed.append(key)
    return found, computed


def samples(old: OldDataset, files: Sequence[Path], key: str, feature: Mapping[str, Any]) -> Iterator[Array] | None:
    """Give what an episode's statistics of a feature are made from; None for one that has none."""
    if feature["dtype"] == "video":
        sampled = [video.sampled for video in old.videos[key]]
        return None if any(one is None for one in sampled) else iter([s for s in sampled if s is not None])
    if feature["dtype"] == "image":
        return (pictures(file, key) for file in files)
    if not feature["dtype"].startswith(NUMBERS) or any(key not in read_schema(file, ()).names for file in files):
        return None
    shape = tuple(feature["shape"])
    return (stack(read_table(file, [key]).column(key), shape, f"{key} in {file.name}") for file in files)


def pictures(file: Path, key: str) -> Array:
    """Return some pictures of an episode, scaled down: (n, channels, height, width) uint8."""
    from lerobot.datasets.compute_stats import auto_downsample_height_width, sample_indices

    column = read_table(file, [key]).column(key)
    found = [np.moveaxis(pixels_of(column, row, key), -1, 0) for row in sample_indices(len(column))]
    return np.stack([auto_downsample_height_width(pixels) for pixels in found])


def pixels_of(column: pa.ChunkedArray, row: int, key: str) -> Array:
    """Return a picture in a table: (height, width, channels).

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    from PIL import Image

    picture = column[row].as_py()
    try:
        with Image.open(io.BytesIO(picture["bytes"])) as image:
            pixels = np.asarray(image)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError) as error:
        allowed = "pictures that can be read, inside the table"
        raise DatasetError(f"{key}, row {row}", Words(str(error)[:120]), allowed) from error
    return pixels.reshape(*pixels.shape[:2], -1)
