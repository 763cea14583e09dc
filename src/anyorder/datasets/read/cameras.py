"""Camera frames of one dataset or several, kept decoded in memory where they fit."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from anyorder.datasets.read.images import BLOCK, FrameReader
from anyorder.errors import MAX_SIDE, ConfigError

Progress = Callable[[int, int], None]
"""A function that long work calls with how much of it is (finished, wanted)."""

GIB = 2**30


@dataclass
class Cameras:
    """Frames by camera and number; numbers count the rows held of all readers, one reader after the other.

    Attributes:
        readers: one a dataset.
        shapes: camera -> (channels, height, width).
        cache: camera -> (frames, channels, height, width) uint8, once ``fill`` was called.
    """

    readers: list[FrameReader]
    shapes: dict[str, tuple[int, int, int]]
    cache: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self.readers))

    @property
    def missing(self) -> dict[str, Tensor]:
        """Return, for each camera that a dataset lacks, which datasets those are: (datasets,) bool."""
        lacking = {key: torch.tensor([key not in r.keys for r in self.readers]) for key in self.shapes}
        return {key: flags for key, flags in lacking.items() if flags.any()}

    @property
    def bytes(self) -> int:
        """Return the size of all frames, decoded."""
        return sum(math.prod(shape) for shape in self.shapes.values()) * len(self)

    def fill(self, cache_gb: float | None = None, progress: Progress | None = None) -> bool:
        """Decode every frame into memory, in order, if that fits; returns whether it did.

        Args:
            cache_gb: how many GiB may be used; None for half of the free memory, 0 for no cache.
            progress: called with (finished, wanted) frames.

        Raises:
            DatasetError: a file cannot be decoded.
        """
        if self.bytes > cache_budget(cache_gb):
            return False
        wanted, finished = len(self.shapes) * len(self), 0
        for key, shape in self.shapes.items():
            # Zeros cost no memory until they are written, so a camera that a dataset lacks takes none.
            frames = torch.zeros((len(self), *shape), dtype=torch.uint8)
            start = 0
            for reader in self.readers:
                for rows in torch.arange(len(reader)).split(BLOCK):
                    if key in reader.keys:
                        frames[start + rows[0] : start + rows[-1] + 1] = reader.read(key, rows)
                    finished += len(rows)
                    if progress is not None:
                        progress(finished, wanted)
                start += len(reader)
            self.cache[key] = frames
        return True

    def frames(self, key: str, numbers: Tensor) -> Tensor:
        """Return frames (n, channels, height, width), uint8, by their numbers (n,); zeros of a camera not there."""
        if key in self.cache:
            return self.cache[key].index_select(0, numbers)
        found = torch.zeros((len(numbers), *self.shapes[key]), dtype=torch.uint8)
        start = 0
        for reader in self.readers:
            here = (numbers >= start) & (numbers < start + len(reader))
            if key in reader.keys and here.any():
                found[here] = reader.read(key, numbers[here] - start)
            start += len(reader)
        return found


@dataclass(frozen=True)
class CameraRows:
    """What the cameras saw at the rows of some episodes, by each row's number among their frames, (rows,) int64."""

    cameras: Cameras
    numbers: Tensor

    def frames(self, rows: Tensor, *, raw: bool) -> dict[str, Tensor]:
        """Return the frames of every camera at ``rows`` int64, (*rows.shape, channels, height, width).

        They are uint8 if ``raw``, else float32 in [0, 1].
        """
        numbers = self.numbers[rows].cpu()
        found = {}
        for key in self.cameras.shapes:
            frames = self.cameras.frames(key, numbers.flatten()).to(rows.device)
            frames = frames.view(*numbers.shape, *frames.shape[1:])
            found[key] = frames if raw else frames.to(torch.float32) / 255
        return found

    def keep(self, kept: Tensor) -> "CameraRows":
        """Return the rows that ``kept`` (rows,) bool marks; the frames in memory stay shared."""
        return CameraRows(self.cameras, self.numbers[kept])

    def to(self, device: torch.device | str) -> "CameraRows":
        """Move the numbers; frames are moved batch by batch."""
        return CameraRows(self.cameras, self.numbers.to(device))


MAX_GB = 1_000_000


def check_cache_gb(cache_gb: float | None) -> None:
    """Raise a ConfigError unless ``cache_gb`` is None or a number >= 0."""
    if cache_gb is not None and not 0 <= cache_gb <= MAX_GB:
        raise ConfigError("cache_gb", cache_gb, f"a number >= 0 and <= {MAX_GB}, or null")


def check_image_size(size: Sequence[int] | None) -> None:
    """Raise a ConfigError unless ``size`` is None or two integers >= 1."""
    if size is not None and (len(size) != 2 or not all(isinstance(n, int) and 1 <= n <= MAX_SIDE for n in size)):
        raise ConfigError("image_size", list(size), f"[height, width], integers >= 1 and <= {MAX_SIDE}, or null")


def cache_budget(cache_gb: float | None) -> float:
    """Return how many bytes decoded frames may take: ``cache_gb``, else half of the free memory.

    Processes on one machine share the half.
    """
    check_cache_gb(cache_gb)
    if cache_gb is not None:
        return cache_gb * GIB
    return free_memory() / 2 / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free_memory() -> int:
    """Return the bytes this process may still take: of the machine, or of its container if that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if (group / limit).is_file() and (group / used).is_file():
            text = (group / limit).read_text().strip()
            if text.isdigit():
                free = min(free, int(text) - int((group / used).read_text()))
    return max(free, 0)
