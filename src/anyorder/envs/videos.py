"""Rollouts as mp4 files."""

import logging
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from anyorder.errors import EnvError

_log = logging.getLogger(__name__)


class EpisodeVideo:
    """Films one episode to ``path`` (H.264, yuv420p, which every player and browser shows).

    The file appears under its name when it is complete. Where the machine cannot render, one line is logged
    and nothing is written: a rollout is worth more than its pictures.
    """

    possible = True
    """Whether rendering has worked so far in this process; after a failure it is not tried again."""

    def __init__(self, path: Path, fps: int) -> None:
        self._path = path
        self._partial = path.with_suffix(".partial.mp4")
        self._fps = fps
        self._writer: Any = None

    def film(self, env: gym.Env) -> None:
        """Add what the environment renders now."""
        if not EpisodeVideo.possible:
            return
        try:
            picture: Any = env.render()
        except (EnvError, RuntimeError, ImportError) as error:
            if self._writer is not None:
                raise
            EpisodeVideo.possible = False
            _log.warning("no videos: %s", str(error).splitlines()[0])
            return
        if self._writer is None:
            self._writer = self._open()
        # H.264 with yuv420p halves the colour planes, so both sides must be even.
        even = np.asarray(picture, dtype=np.uint8)[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
        self._writer.append_data(even)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            os.replace(self._partial, self._path)
            self._writer = None

    def abort(self) -> None:
        """Leave no file behind."""
        if self._writer is not None:
            self._writer.close()
            self._partial.unlink(missing_ok=True)
            self._writer = None

    def _open(self) -> Any:
        import imageio

        self._path.parent.mkdir(parents=True, exist_ok=True)
        return imageio.get_writer(
            self._partial,
            format="FFMPEG",
            mode="I",
            fps=self._fps,
            codec="libx264",
            pixelformat="yuv420p",
            macro_block_size=1,
        )
