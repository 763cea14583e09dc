"""Videos of an older dataset: what they hold, and new time stamps where theirs are of no use."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from anyorder.datasets.read.images import TOLERANCE_S, unreadable_video
from anyorder.datasets.read.tables import damaged, is_pointer
from anyorder.errors import DatasetError

TICKS = 12_800
"""A restamped video's clock ticks so often a frame. The mp4 writer doubles a clock of less than 10,000 a second."""


@dataclass(frozen=True)
class VideoFormat:
    """What all videos of a camera must agree in."""

    height: int
    width: int
    codec: str
    pixels: str

    def __str__(self) -> str:
        return f"{self.height} x {self.width} {self.codec} {self.pixels}"


@dataclass(frozen=True)
class OldVideo:
    """One episode of one camera.

    Attributes:
        path: the file.
        format: of its pictures.
        off_s: how far the frames of its rows are from frame number / fps at most.
        frames: how many it has.
        sampled: some of them, scaled down, for statistics: (n, channels, height, width) uint8; None if not asked for.
    """

    path: Path
    format: VideoFormat
    off_s: float
    frames: int
    sampled: npt.NDArray[np.uint8] | None = None

    @property
    def on_time(self) -> bool:
        """Whether LeRobot finds every frame by its time."""
        return self.off_s < TOLERANCE_S


def read_video(path: Path, rows: int, fps: int, sample: bool = False) -> OldVideo:
    """Decode a whole video, which is the only way to know that it can be.

    Its episode has ``rows``, at ``fps`` Hz; a frame beyond has no place to be at. ``sample`` keeps some frames, for
    statistics.

    Raises:
        DatasetError: it cannot be decoded.
    """
    import av
    from lerobot.datasets.compute_stats import auto_downsample_height_width, sample_indices

    if is_pointer(path):
        raise damaged(path, "a whole video", "")
    times: list[float] = []
    kept = []
    wanted = set(sample_indices(rows)) if sample else set()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            for frame in container.decode(stream):
                if len(times) in wanted:
                    pixels = np.moveaxis(frame.to_ndarray(format="rgb24"), -1, 0)
                    kept.append(auto_downsample_height_width(pixels))
                times.append(np.nan if frame.pts is None else float(frame.pts * (stream.time_base or 0)))
            context = stream.codec_context
            pictures = VideoFormat(stream.height, stream.width, context.name, str(context.pix_fmt))
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise unreadable_video(path, "a whole video", error) from error
    shown = times[:rows]
    off = float(np.abs(np.array(shown) - np.arange(len(shown)) / fps).max(initial=0))
    off = off if np.isfinite(off) else np.inf
    return OldVideo(path, pictures, off, len(times), np.stack(kept) if kept else None)


def restamp(video: OldVideo, target: Path, fps: int) -> None:
    """Copy a video with its k-th frame at k / fps; the pictures are not encoded again.

    Raises:
        DatasetError: the order of its frames is not known: they have no times of their own and B-frames among them.
    """
    import av

    with av.open(str(video.path)) as source, av.open(str(target), "w") as copy:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        times = [packet.pts for packet in packets]
        if None in times or len(set(times)) < len(times):
            if has_b_frames(video.path):
                raise DatasetError("video file", str(video.path), "frames with times of their own, or without B-frames")
            order = list(range(len(times)))
        else:
            order = np.argsort(np.argsort(np.array(times))).tolist()
        delay = max(place - shown for place, shown in enumerate(order))
        out = copy.add_stream_from_template(stream, opaque=True)
        out.time_base = Fraction(1, fps * TICKS)
        for place, (packet, shown) in enumerate(zip(packets, order, strict=True)):
            packet.stream = out
            packet.time_base = out.time_base
            packet.pts, packet.dts, packet.duration = shown * TICKS, (place - delay) * TICKS, TICKS
            copy.mux(packet)


def has_b_frames(path: Path) -> bool:
    """Return whether a video shows its frames in another order than it stores them."""
    import av

    with av.open(str(path)) as container:
        kinds = {frame.pict_type for frame in container.decode(video=0)}
    return av.video.frame.PictureType.B in kinds
