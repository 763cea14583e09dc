"""Writing one episode with LeRobot's own writer into the staging folder of a dataset."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from anyorder.datasets.quiet import replaced
from anyorder.datasets.write.commit import INFO_PATH, last_episode, staging_folder

if TYPE_CHECKING:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset


def write_episode(
    root: Path, repo_id: str, env: gym.Env, features: dict[str, dict[str, Any]], frames: list[dict[str, Any]]
) -> None:
    """Write the episode that follows those of the dataset in ``root`` into its staging folder.

    ``root`` is only read and need not exist. ``features`` say what LeRobot is to know of each value of a frame;
    ``frames`` are the values of every step of ``env`` by feature.
    """
    from lerobot.datasets import dataset_writer
    from lerobot.utils.utils import SuppressProgressBars

    base: Any = env.unwrapped
    # Without it the encoder prints twenty lines a video.
    os.environ.setdefault("SVT_LOG", "1")
    dataset = staging_dataset(root, repo_id, env, features)
    # LeRobot 0.6.1 embeds images row by row also where no column holds images: that takes half of the time to save.
    pictures = any(feature["dtype"] == "image" for feature in features.values())
    embed_images = dataset_writer.embed_images if pictures else lambda dataset: dataset
    with (
        SuppressProgressBars(),
        replaced(dataset_writer, "embed_images", embed_images),
        replaced(dataset_writer, "write_image", write_image),
    ):
        for frame in frames:
            dataset.add_frame({**frame, "task": base.task_description})
        dataset.save_episode(parallel_encoding=False)
        dataset.finalize()


def write_image(image: np.ndarray, path: Path, compress_level: int = 1) -> None:
    """Write a picture or raise; LeRobot 0.6.1 logs what went wrong and goes on: a video would lack the frame."""
    from lerobot.datasets import image_writer

    picture = image_writer.image_array_to_pil_image(image)
    picture.save(path, **image_writer.save_kwargs_for_path(path, compress_level))


def staging_dataset(root: Path, repo_id: str, env: gym.Env, features: dict[str, dict[str, Any]]) -> "LeRobotDataset":
    """Open a LeRobot dataset in the staging folder that goes on where the dataset in ``root`` ends.

    ``LeRobotDataset.resume`` would do the same from a copy of the metadata, but costs more than saving an
    episode.
    """
    from lerobot.datasets.io_utils import load_info, load_stats, load_tasks
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    staging = staging_folder(root)
    shutil.rmtree(staging, ignore_errors=True)
    dataset = LeRobotDataset.create(
        repo_id,
        fps=int(env.metadata["render_fps"]),
        features=features,
        root=staging,
        robot_type=getattr(env.unwrapped, "robot_type", None),
        use_videos=any(feature["dtype"] == "video" for feature in features.values()),
        video_backend="pyav",
    )
    if (root / INFO_PATH).is_file():
        meta = dataset.meta
        meta.info, meta.tasks, meta.stats = load_info(root), load_tasks(root), load_stats(root)
        meta.episodes = [last_episode(root, meta.total_episodes - 1)]
        dataset.clear_episode_buffer()  # it holds the number of the episode to come
    return dataset
