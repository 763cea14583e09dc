"""What ``meta/info.json`` of a dataset says, checked entry by entry, and paths made from it."""

import json
import math
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyorder.datasets.read.tables import is_pointer
from anyorder.errors import DatasetError
from anyorder.files import Words
from anyorder.folders import inside

MOST_FPS = 1_000_000
MOST_NUMBERS = 10**8
"""One frame of a feature may hold at most this many numbers."""
LONGEST_NAME, LONGEST_PATH = 255, 2_000
"""Names and paths in a dataset may have at most this many bytes; file systems take no more, and no dataset needs it."""


def load_info(root: Path, field: str, version: str) -> dict[str, Any]:
    """Read the JSON object of ``meta/info.json`` of the dataset in ``root``, which a message calls ``field``.

    Raises:
        DatasetError: says why that is not possible, and of which version it should be.
    """
    path = root / "meta" / "info.json"
    try:
        if is_pointer(path):
            raise ValueError("Git LFS has not fetched it: `git lfs pull` does")
        # A byte order mark, which some editors of Windows write, is skipped.
        info = json.loads(path.read_text(encoding="utf-8-sig"))
        if not isinstance(info, dict):
            raise ValueError(f"it holds JSON of {type(info).__name__}, not an object")
    except (OSError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160] if path.is_file() else "it is not there"
        allowed = f"a LeRobot dataset of version {version} (its meta/info.json cannot be read: {reason})"
        raise DatasetError(field, str(root), allowed) from error
    return info


def check_rate(value: Any, field: str) -> float:
    """Return a rate in Hz, which need not be a whole number.

    Raises:
        DatasetError: it is no number, or none that frames can come at.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_FPS:
        raise DatasetError(field, value, f"a number above 0, at most {MOST_FPS:,}")
    return int(value) if value == int(value) else value


def check_count(info: Mapping[str, Any], name: str, path: Path, most: int) -> int:
    """Return a number of episodes or frames.

    Raises:
        DatasetError: it is no whole number, or too large.
    """
    value = info.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise DatasetError(f"{name} in {path}", value, f"an integer, 0 to {most}")
    return value


def check_features(info: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """Return the features, each with the name of its type; shapes are checked where a feature is used.

    Raises:
        DatasetError: there are none, or one does not say of what type it is.
    """
    features = info.get("features")
    if not isinstance(features, dict) or not features:
        given = Words(type(features).__name__) if features else features
        raise DatasetError(f"features in {path}", given, "an object, a feature a name")
    for key, feature in features.items():
        if not isinstance(feature, dict) or not isinstance(feature.get("dtype"), str):
            given = feature.get("dtype") if isinstance(feature, dict) else Words(type(feature).__name__)
            raise DatasetError(f"dtype of {key} in {path}", given, "text, as 'float32'")
    return features


def check_shape(feature: Mapping[str, Any], field: str) -> tuple[int, ...]:
    """Return the shape of a feature's frame; one number has the shape (1,).

    Raises:
        DatasetError: it is no list of sizes, or a camera's has not three.
    """
    shape: Any = feature.get("shape")
    camera = feature["dtype"] in ("image", "video")
    whole = isinstance(shape, list | tuple) and all(isinstance(n, int) and n is not True for n in shape)
    if not whole or not all(0 < n <= MOST_NUMBERS for n in shape) or math.prod(shape) > MOST_NUMBERS:
        raise DatasetError(field, shape, f"a list of integers >= 1, {MOST_NUMBERS:,} numbers at most")
    if camera and len(shape) != 3:
        raise DatasetError(field, list(shape), "[height, width, channels]")
    return tuple(shape) or (1,)


def file_of(root: Path, pattern: str, field: str, **values: str | int) -> Path:
    """Return the path below ``root`` that a pattern of a dataset's metadata means; a message calls it ``field``.

    It is like ``videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4``. Only what ``values`` names is
    filled in, each plainly or, a number, with a width of two digits at most.

    Raises:
        DatasetError: the pattern asks for something else, or leads out of ``root``.

    >>> file_of(Path("data"), "file-{file_index:03d}.mp4", "video_path", file_index=7).as_posix()
    'data/file-007.mp4'
    >>> file_of(Path("data"), "{file_index:999999999}.mp4", "video_path", file_index=7)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    anyorder.errors.DatasetError: video_path: '{file_index:999999999}.mp4' given, allowed: a path with {file_index...
    """
    allowed = f"a path with {', '.join(f'{{{name}}}' for name in values)}, numbers as :03d"
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise DatasetError(field, pattern, allowed) from error
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        specs = r"0?\d?\dd?|d?" if isinstance(values.get(name), int) else ""
        if name not in values or conversion is not None or not re.fullmatch(specs, spec or ""):
            raise DatasetError(field, pattern, allowed)
    name = pattern.format(**values)
    steps = [len(step.encode(errors="surrogatepass")) for step in name.split("/")]
    if max(steps) > LONGEST_NAME or sum(steps) > LONGEST_PATH:
        raise DatasetError(field, name[:80] + "...", f"names of at most {LONGEST_NAME} bytes")
    return inside(root, name, field, DatasetError)
