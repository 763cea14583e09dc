"""Camera frames of one dataset, decoded by LeRobot's own functions."""

import re
import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from anyorder.datasets.read.decoder import DECODER, DecoderError, decode_here
from anyorder.datasets.read.folder import DatasetInfo
from anyorder.datasets.read.places import VideoPlace, video_places
from anyorder.datasets.read.tables import damaged, is_pointer, parquet_files, read_schema
from anyorder.datasets.write.commit import check_recorded_videos
from anyorder.errors import DatasetError, did_you_mean
from anyorder.files import Words

TOLERANCE_S = 1e-4
"""A video's frame may be this far from its time stamp; it is LeRobot's own default."""

BLOCK = 128
"""At most this many frames are decoded at once: this bounds memory, and is enough for decoding in order to pay."""


class FrameReader:
    """The frames of some cameras of one dataset, for the rows that are held.

    Frames equal those of ``LeRobotDataset`` bit for bit: videos go through LeRobot's ``decode_video_frames``, PNGs
    through the Hugging Face dataset that LeRobot reads. Files are opened where they are used, so that a reader may be
    sent to another process.

    Args:
        info: the dataset.
        keys: its cameras.
        size: (height, width) that frames are scaled down to; None leaves them as recorded.
        columns: ``episode_index``, ``timestamp`` and ``index`` (place in the files) of the rows held.
        partial: accept that some video files are not there; ``check`` passes over them.
        tolerance_s: how far a frame may be from its time stamp.
    """

    def __init__(
        self,
        info: DatasetInfo,
        keys: Sequence[str],
        size: Sequence[int] | None,
        columns: dict[str, Tensor],
        *,
        partial: bool = False,
        tolerance_s: float = TOLERANCE_S,
    ) -> None:
        self.info = info
        self.tolerance_s = tolerance_s
        self.keys = list(keys)
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.episode, self.timestamp, self.index = (columns[name] for name in ("episode_index", "timestamp", "index"))
        self.recorded = {key: camera_shape(info, key) for key in self.keys}
        self.shapes = {key: (c, *(self.size or (h, w))) for key, (c, h, w) in self.recorded.items()}
        self.places: dict[str, dict[int, VideoPlace]] = {
            key: video_places(info, key, partial, None if partial else set(self.episode.unique().tolist()))
            for key in self.keys
            if self._is_video(key)
        }
        self.recorded_files: set[Path] = set()
        """Videos whose digests were found to be those of the recording."""
        for key, (_, height, width) in self.recorded.items():
            if self.size is not None and (self.size[0] > height or self.size[1] > width):
                allowed = f"at most [{height}, {width}], as {key} was recorded"
                raise DatasetError("dataset.image_size", list(self.size), allowed)

    def __len__(self) -> int:
        return len(self.index)

    def check(self) -> None:
        """Decode the last frame needed of every video file: a missing or truncated one fails here.

        Raises:
            DatasetError: names the file.
        """
        files = {place.path for places in self.places.values() for place in places.values()}
        self.recorded_files = check_recorded_videos(self.info.root, files)
        last_rows = torch.cat([(self.episode.diff() != 0).nonzero().flatten(), torch.tensor([len(self) - 1])])
        for key, places in self.places.items():
            last: dict[Path, tuple[float, int]] = {}
            for row in last_rows.tolist():
                place = places.get(int(self.episode[row]))
                if place is None:  # not downloaded
                    continue
                last[place.path] = max(last.get(place.path, (-1.0, -1)), (place.start_s, row))
            for _, row in last.values():
                self.read(key, torch.tensor([row]))

    def read(self, key: str, rows: Tensor) -> Tensor:
        """Return the frames of rows (n,) as uint8 (n, channels, height, width).

        Raises:
            DatasetError: a file cannot be read, or a frame has another size than the dataset says.
        """
        read = self._video if self._is_video(key) else self._pictures
        pieces = [self._scaled(key, read(key, run)) for run in self._runs(rows)]
        return torch.cat(pieces)

    def _is_video(self, key: str) -> bool:
        return bool(self.info.features[key]["dtype"] == "video")

    def _runs(self, rows: Tensor) -> Iterator[Tensor]:
        """Cut rows where they stop to be one after the other in one episode, or become too many."""
        breaks = (rows.diff() != 0) & (rows.diff() != 1) | (self.episode[rows].diff() != 0)
        borders = [0, *(breaks.nonzero().flatten() + 1).tolist(), len(rows)]
        for start, stop in pairwise(borders):
            yield from rows[start:stop].split(BLOCK)

    def _video(self, key: str, rows: Tensor) -> Tensor:
        place = self.places[key][int(self.episode[rows[0]])]
        times = [place.start_s + time for time in self.timestamp[rows].tolist()]
        # A file that is what was recorded harms no decoder; of any other, another process takes the risk.
        decode = decode_here if place.path in self.recorded_files else DECODER.frames
        try:
            return decode(place.path, times, self.tolerance_s, video_backend())
        except DecoderError as error:
            # From half a frame on, the nearest frame is another one.
            if (off_s := off_by(error)) is not None and off_s < 0.5 / self.info.fps:
                allowed = f"above {off_s:.2g}: so many seconds a frame of {place.path} is from its time stamp"
                raise DatasetError("dataset.tolerance_s", self.tolerance_s, allowed) from error
            moments = f"a frame at {times[0]:.2f} s"
            if len(times) > 1:
                moments = f"frames from {times[0]:.2f} to {times[-1]:.2f} s"
            raise unreadable_video(place.path, f"a whole video with {moments}", error) from error

    def _pictures(self, key: str, rows: Tensor) -> Tensor:
        from PIL.Image import DecompressionBombError

        numbers, source = self.index[rows].tolist(), self.info.source(key)
        try:
            pictures = self._table.select_columns(source)[numbers][source]
        except (OSError, SyntaxError, ValueError, IndexError, struct.error, DecompressionBombError) as error:
            where = f"{key}, frames {numbers[0]} ... {numbers[-1]}"
            raise DatasetError(where, str(error), "images that can be read") from error
        frames = []
        for picture in pictures:
            pixels = np.array(picture)
            if pixels.dtype != np.uint8:
                raise DatasetError(f"type of {key}", str(pixels.dtype), "8-bit images")
            frames.append(torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1))
        return torch.stack(frames)

    @cached_property
    def _table(self) -> Any:
        """The PNG columns, memory-mapped."""
        import datasets
        from lerobot.utils.utils import SuppressProgressBars

        columns = [self.info.source(key) for key in self.keys if not self._is_video(key)]
        files = parquet_files(self.info.root / "data")
        for file in files:
            check_pictures(file, columns)
        features = datasets.Features({key: datasets.Image() for key in columns})
        with SuppressProgressBars():
            return datasets.Dataset.from_parquet(list(map(str, files)), columns=columns, features=features)

    def _scaled(self, key: str, frames: Tensor) -> Tensor:
        if frames.shape[1:] != self.recorded[key]:
            (channels, height, width), (c, h, w) = self.recorded[key], frames.shape[1:]
            allowed = f"{height} x {width} with {channels} channels, as its meta/info.json says"
            raise DatasetError(f"frame size (height x width) of {key}", Words(f"{h} x {w} with {c} channels"), allowed)
        return frames if self.size is None else downscale(frames, self.size)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_table"}


def unreadable_video(path: Path, allowed: str, error: Exception) -> DatasetError:
    """Return the error of a video that cannot be decoded, with the decoder's reason in short."""
    if is_pointer(path):
        return damaged(path, "a whole video", "")
    # FFmpeg's errors have the reason by itself; LeRobot's name the file once more.
    reason = str(getattr(error, "strerror", None) or error).replace(str(path), "it")
    return DatasetError("video file", str(path), f"{allowed} ({' '.join(reason.split())[:160]})")


def off_by(error: Exception) -> float | None:
    """Return by how many seconds frames miss their time stamps, if that is what LeRobot's decoder complains of."""
    if "violate the tolerance" not in str(error):
        return None
    found = re.search(r"tensor\(\[([^\]]+)\]", str(error))
    try:
        return max(float(number) for number in found[1].split(",")) if found else None
    except ValueError:
        return None


def check_pictures(file: Path, columns: Sequence[str]) -> None:
    """Check that a parquet file holds pictures in some columns: each their bytes or the path of a file.

    Raises:
        DatasetError: it is damaged, or a column is not there or holds something else.
    """
    schema = read_schema(file, columns)
    for name in columns:
        kind = schema.field(name).type
        known = {kind.field(i).name for i in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
        if not known & {"bytes", "path"}:
            raise DatasetError(f"{name} in {file}", Words(str(kind)), "pictures, as their bytes or paths")


def camera_shape(info: DatasetInfo, key: str) -> tuple[int, int, int]:
    """Return a camera's (channels, height, width)."""
    first, second, third = info.shape(key)
    names = info.features[key].get("names")
    if isinstance(names, list | tuple) and len(names) == 3 and str(names[0]).startswith("channel"):
        return first, second, third
    return third, first, second


def camera_keys(info: DatasetInfo, images: bool | Sequence[str]) -> list[str]:
    """Return the cameras to read: all, none, or those asked for.

    Raises:
        DatasetError: there is no such camera, or it records depth.
    """
    if images is False:
        return []
    wanted = info.cameras if images is True else list(images)
    for key in wanted:
        if key not in info.cameras:
            allowed = (", ".join(info.cameras) or "no camera") + did_you_mean(key, info.cameras)
            raise DatasetError("dataset.observations", key, allowed)
        if is_depth(info, key):
            raise DatasetError("dataset.observations", key, "cameras that record color, not depth")
    return wanted


def is_depth(info: DatasetInfo, key: str) -> bool:
    """Return whether a camera records depth."""
    about = info.features[key].get("info")
    return isinstance(about, dict) and bool(about.get("is_depth_map") or about.get("video.is_depth_map"))


def downscale(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale uint8 frames (n, channels, height, width) to ``size`` = (height, width), bilinear with antialiasing.

    >>> downscale(torch.full((1, 3, 48, 64), 7, dtype=torch.uint8), (24, 32)).unique()
    tensor([7], dtype=torch.uint8)
    """
    from torchvision.transforms.v2 import functional

    return functional.resize(frames, list(size), antialias=True)


def video_backend() -> str:
    """Return LeRobot's name of the video decoder: torchcodec where it finds FFmpeg, else pyav."""
    from ctypes.util import find_library
    from importlib.util import find_spec

    # Asking torchcodec itself prints a hundred lines when a library is missing.
    return "torchcodec" if find_spec("torchcodec") and find_library("avutil") else "pyav"
