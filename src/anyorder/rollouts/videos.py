"""Rollouts as mp4 files."""

import logging
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from anyorder.errors import EnvError

_log = logging.getLogger(__name__)


class VideoFolder:
    """The videos of one rollout: ``episode_0000.mp4``, ... in ``folder``.

    Where the machine cannot render, one line is logged and nothing is written: a rollout is worth more than its
    pictures.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._possible = True

    def episode(self, index: int, fps: int) -> "EpisodeVideo":
        """Return the video of episode ``index``, still without a frame."""
        return EpisodeVideo(self, self._folder / f"episode_{index:04d}.mp4", fps)

    def picture(self, env: gym.Env, first: bool) -> Any:
        """Return what ``env`` renders, (height, width, 3) uint8, or None where that has failed at a first picture."""
        if not self._possible:
            return None
        try:
            return env.render()
        except (EnvError, RuntimeError, ImportError) as error:
            if not first:
                raise
            self._possible = False
            _log.warning("no videos: %s", str(error).splitlines()[0])
            return None


class EpisodeVideo:
    """One episode as H.264 with yuv420p, which every player and browser shows.

    The file appears under its name when it is complete.
    """

    def __init__(self, folder: VideoFolder, path: Path, fps: int) -> None:
        self._folder = folder
        self._path = path
        self._partial = path.with_suffix(".partial.mp4")
        self._fps = fps
        self._writer: Any = None

    def film(self, env: gym.Env) -> None:
        """Add what the environment renders now."""
        picture = self._folder.picture(env, first=self._writer is None)
        if picture is None:
            return
        if self._writer is None:
            self._writer = self._open()
        # H.264 with yuv420p halves the color planes, so both sides must be even.
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
            # Of a film of Lift half the CPU time of the default preset, and a file as large.
            output_params=["-preset", "veryfast"],
        )
