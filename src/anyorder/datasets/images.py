"""Camera frames of a dataset, decoded by LeRobot, and finding or fetching a dataset by its hub name."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anyorder.errors import DatasetError, bad_value

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset


class FrameImages:
    """The images of single frames, as LeRobot's loader gives them."""

    def __init__(self, root: Path, repo_id: str | None = None) -> None:
        self.root = root
        self.repo_id = repo_id or f"local/{root.name}"
        self._dataset: LeRobotDataset | None = None

    def frames(self, index: Tensor) -> dict[str, Tensor]:
        """Decode the frames with the dataset-wide numbers ``index`` (B,).

        Returns:
            Camera feature -> (B, channels, height, width) float32 in [0, 1].
        """
        dataset = self._open()
        items = [dataset[int(i)] for i in index]
        return {key: torch.stack([item[key] for item in items]) for key in dataset.meta.camera_keys}

    def _open(self) -> "LeRobotDataset":
        if self._dataset is None:  # opened where it is used: a decoder cannot be shared with a worker process
            from lerobot.datasets.lerobot_dataset import LeRobotDataset

            self._dataset = LeRobotDataset(self.repo_id, root=self.root, video_backend=video_backend())
        return self._dataset

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_dataset": None}


def video_backend() -> str:
    """Return LeRobot's name of the video decoder: torchcodec where it finds FFmpeg, else pyav."""
    from ctypes.util import find_library
    from importlib.util import find_spec

    # Asking torchcodec itself prints a hundred lines when a library is missing.
    return "torchcodec" if find_spec("torchcodec") and find_library("avutil") else "pyav"


def resolve_root(root: str | Path | None, repo_id: str | None, *, images: bool) -> Path:
    """Return the folder of a dataset: ``root``, or ``repo_id`` in LeRobot's cache, downloaded if need be.

    Raises:
        DatasetError: neither was given, or the hub does not answer.
    """
    if root is not None:
        return Path(root)
    if repo_id is None:
        raise DatasetError(bad_value("root", None, "a dataset folder, or repo_id with its name on the hub"))
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.constants import HF_LEROBOT_HOME

    cached = HF_LEROBOT_HOME / repo_id
    if (cached / "meta" / "info.json").is_file():
        return Path(cached)
    try:
        return Path(LeRobotDataset(repo_id, download_videos=images).root)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        allowed = f"a folder below {HF_LEROBOT_HOME}, or a dataset that the hub gives out ({reason})"
        raise DatasetError(bad_value("repo_id", repo_id, allowed)) from error
