"""Demonstrations by an environment's scripted expert, written as a LeRobot dataset (v3)."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from anyorder.datasets.read.folder import read_info
from anyorder.datasets.write.commit import (
    INFO_PATH,
    check_recorded,
    commit,
    discard,
    last_episode,
    recover,
    staging_folder,
)
from anyorder.datasets.write.lerobot_writer import write_episode
from anyorder.datasets.write.origin import Origin
from anyorder.envs.base import EnvConfig, Expert
from anyorder.envs.lerobot_names import dimension_names, named_values, observation_features
from anyorder.errors import DatasetError
from anyorder.folders import owned

MAX_FAILURES = 50
"""A recording ends when this many episodes in a row failed: the expert cannot do this task."""

Frame = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """What ``record`` made: where, how much, and from which seeds."""

    root: Path
    episodes: int
    frames: int
    fps: int
    seeds: list[int]
    failed: int
    """Episodes dropped in this call because the expert failed."""

    @property
    def minutes(self) -> float:
        """Return the demonstrations' length at the control rate."""
        return self.frames / self.fps / 60


def record(
    env_config: EnvConfig,
    root: str | Path,
    *,
    episodes: int,
    seed: int = 0,
    repo_id: str | None = None,
    only_successful: bool = True,
    resume: bool = False,
    use_videos: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Recording:
    """Record ``episodes`` demonstrations of ``env_config``'s expert into the folder ``root``.

    A frame holds the observation *before* the action and the action that the expert returned, both float32,
    the very values that went through the environment. Episode seeds count up from ``seed``; with
    ``only_successful`` a failed episode is dropped and the next seed tried.

    A kill at any moment leaves every finished episode readable by ``LeRobotDataset`` and ``ActionChunks``;
    the same call with ``resume=True`` then ends in the same data as an undisturbed recording.

    Args:
        env_config: what to record.
        root: dataset folder; must not exist unless ``resume``.
        episodes: number of episodes the dataset has in the end.
        seed: reset seed of the first episode.
        repo_id: LeRobot's name for the dataset; default ``local/<folder name>``.
        only_successful: keep only episodes in which ``info["is_success"]`` became true.
        resume: continue the dataset in ``root`` (or start it).
        use_videos: cameras as mp4; otherwise as PNG inside the parquet files.
        progress: called with (finished, wanted) after every episode.

    Raises:
        DatasetError: ``root`` exists, holds another recording or more episodes, or the expert failed too often in a
            row.
    """
    root = Path(root)
    if episodes < 1:
        raise DatasetError("episodes", episodes, "an integer >= 1")
    with owned(root, "root"):
        origin = _open(root, Origin.of(env_config, seed=seed, only_successful=only_successful), resume)
        if len(origin.episodes) > episodes:
            there = len(origin.episodes)
            raise DatasetError("episodes", episodes, f"{there} or more, as {root} has {there} already")
        return _record(env_config, root, origin, episodes, repo_id, use_videos, progress)


def _record(
    env_config: EnvConfig,
    root: Path,
    origin: Origin,
    episodes: int,
    repo_id: str | None,
    use_videos: bool,
    progress: Callable[[int, int], None] | None,
) -> Recording:
    """Record what ``origin`` lacks of ``episodes``."""
    repo_id = repo_id or f"local/{root.name}"
    failed = failures_in_a_row = 0
    env = env_config.build()
    try:
        expert = env_config.expert()
        features = _features(env, use_videos)
        next_seed = origin.next_seed
        while len(origin.episodes) < episodes:
            if failures_in_a_row == MAX_FAILURES:
                task = f"{env_config.choice} {env_config.task}".rstrip()
                message = f"an environment whose expert succeeds; here {MAX_FAILURES} episodes in a row failed"
                raise DatasetError("env", task, message)
            frames, success = roll_out(env, expert, next_seed)
            if success or not origin.only_successful:
                origin.episodes.append({"seed": next_seed, "success": success})
                write_episode(root, repo_id, env, features, frames)
                origin.save(staging_folder(root))
                commit(root)
                failures_in_a_row = 0
                if progress is not None:
                    progress(len(origin.episodes), episodes)
            else:
                failed += 1
                failures_in_a_row += 1
            next_seed += 1
        fps = int(env.metadata["render_fps"])
    finally:
        env.close()
        shutil.rmtree(staging_folder(root), ignore_errors=True)
    seeds = [episode["seed"] for episode in origin.episodes]
    total = last_episode(root, len(seeds) - 1)["dataset_to_index"]
    return Recording(root, len(seeds), total, fps, seeds, failed)


def roll_out(env: gym.Env, expert: Expert, seed: int) -> tuple[list[Frame], bool]:
    """Run ``expert`` for one episode; return its frames (observation, action) and whether it succeeded."""
    frames: list[Frame] = []
    observation, info = env.reset(seed=seed)
    expert.reset(env, seed)
    success = bool(info["is_success"])
    for _ in range(env.unwrapped.max_episode_steps):  # type: ignore[attr-defined]
        action = np.asarray(expert.act(env, observation), dtype=np.float32)
        # Copies, since a simulator may use its buffers again.
        seen = {name: np.array(value) for name, value in named_values(observation).items()}
        frames.append({**seen, "action": action})
        observation, _, terminated, truncated, info = env.step(action)
        success = success or bool(info["is_success"])
        if terminated or truncated:
            break
    return frames, success


def _open(root: Path, origin: Origin, resume: bool) -> Origin:
    """Check that ``root`` may be written; return what it holds so far."""
    if root.exists() and not resume:
        raise DatasetError("root", str(root), "a folder that does not exist yet, or resume=true")
    recover(root) if resume else discard(root)
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        return origin
    check_recorded(root)
    found = Origin.load(root)
    if found is None or not (root / INFO_PATH).is_file():
        raise DatasetError("root", str(root), "a dataset that anyorder recorded, to resume it")
    for name in ("env", "seed", "only_successful"):
        if getattr(found, name) != getattr(origin, name):
            raise DatasetError(name, getattr(origin, name), f"{getattr(found, name)!r}, as in the recording to resume")
    del found.episodes[read_info(root, "root").total_episodes :]
    return found


def _features(env: gym.Env, use_videos: bool) -> dict[str, dict[str, Any]]:
    """Describe the environment's observation and action in LeRobot's terms."""
    world: Any = env.unwrapped
    vectors = {**dimension_names(env), "action": list(world.action_names)}
    described: dict[str, dict[str, Any]] = {
        name: {"dtype": "float32", "shape": (len(names),), "names": names} for name, names in vectors.items()
    }
    axes = {"dtype": "video" if use_videos else "image", "names": ["height", "width", "channels"]}
    pictures = {
        name: {**axes, "shape": feature.shape}
        for name, feature in observation_features(env).items()
        if feature.is_picture
    }
    return {**described, **pictures}
