"""Contact sheets: films as rows of pictures, one row a run."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from anyorder.errors import ConfigError, UserError

DPI = 100
GAP_PX = 6
LABEL_PX = 30
BACKGROUND, INK = "#16181b", "#f2f2f0"


class Strip(NamedTuple):
    """Frames of one film.

    Attributes:
        label: said above the row.
        frames: pictures (count, height, width, 3), uint8.
        times_s: when each was filmed, seconds from the start.
    """

    label: str
    frames: np.ndarray
    times_s: tuple[float, ...]


def spread(total: int, count: int) -> list[int]:
    """Return ``count`` frame numbers, evenly spread from the first to the last of ``total``.

    >>> spread(100, 5), spread(3, 5), spread(9, 1)
    ([0, 25, 50, 74, 99], [0, 0, 1, 2, 2], [0])
    """
    return [round(index) for index in np.linspace(0, total - 1, count)]


def read_strip(video: str | Path, label: str, frames: int = 8) -> Strip:
    """Read evenly spread frames of an mp4; short films repeat some.

    Raises:
        UserError: the file is no film.
        ConfigError: fewer than one frame asked for.
    """
    import imageio.v2 as imageio

    if frames < 1:
        raise ConfigError("frames", frames, "an integer >= 1")
    try:
        reader: Any = imageio.get_reader(str(video), format="FFMPEG")
        with reader:
            fps = float(reader.get_meta_data()["fps"])
            wanted = spread(reader.count_frames(), frames)
            last, kept = max(wanted), {}
            for number, picture in enumerate(reader.iter_data()):
                if number in wanted:
                    kept[number] = np.asarray(picture)
                if number == last:
                    break
        # ffmpeg may count a frame more than it can decode.
        available = sorted(kept)
        chosen = [min(available, key=lambda number, w=want: abs(number - w)) for want in wanted]  # type: ignore[misc]
    except (OSError, RuntimeError, IndexError, ValueError) as error:
        raise UserError("video", str(video), "a film that ffmpeg can read") from error
    return Strip(label, np.stack([kept[number] for number in chosen]), tuple(n / fps for n in chosen))


def contact_sheet(strips: Sequence[Strip], frame_width_px: int = 150) -> bytes:
    """Return a PNG with one labelled row per strip, each frame with its time.

    The sheet is ``frames * (frame_width_px + 6) + 6`` pixels wide; rows keep the films' aspect.

    Raises:
        ConfigError: no strips.
    """
    if not strips:
        raise ConfigError("strips", [], "at least one film")
    heights = [math.ceil(frame_width_px * s.frames.shape[1] / s.frames.shape[2]) for s in strips]
    width = max(len(strip.frames) for strip in strips) * (frame_width_px + GAP_PX) + GAP_PX
    height = sum(heights) + len(strips) * (LABEL_PX + GAP_PX) + GAP_PX
    sheet = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=BACKGROUND)
    top = height
    for strip, frame_height in zip(strips, heights, strict=True):
        middle = (top - LABEL_PX / 2 - 2) / height
        sheet.text((GAP_PX + 2) / width, middle, strip.label, color=INK, fontsize=11, va="center", parse_math=False)
        top -= LABEL_PX
        for column, (frame, time_s) in enumerate(zip(strip.frames, strip.times_s, strict=True)):
            left = GAP_PX + column * (frame_width_px + GAP_PX)
            box = (left / width, (top - frame_height) / height, frame_width_px / width, frame_height / height)
            axes = sheet.add_axes(box)
            axes.imshow(frame, aspect="auto", interpolation="antialiased")
            axes.set_axis_off()
            back = {"facecolor": BACKGROUND, "alpha": 0.6, "edgecolor": "none", "pad": 1.2}
            place: Any = {"transform": axes.transAxes, "ha": "right", "va": "top"}
            axes.text(0.98, 0.97, f"{time_s:.1f} s", color=INK, fontsize=8, bbox=back, **place)
        top -= frame_height + GAP_PX
    buffer = io.BytesIO()
    sheet.savefig(buffer, format="png", facecolor=BACKGROUND)
    return buffer.getvalue()
