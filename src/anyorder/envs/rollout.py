"""Closed-loop rollouts of a policy, many episodes at once."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

from anyorder.envs.base import EnvConfig, Observation
from anyorder.envs.results import EpisodeResult, ResultWriter, RolloutResult
from anyorder.envs.videos import EpisodeVideo, VideoFolder
from anyorder.errors import ConfigError, EnvError, bad_value

if TYPE_CHECKING:
    from torch import Tensor

Batch = dict[str, Any]


class BatchedPolicy(Protocol):
    """What a rollout needs of a policy.

    Two attributes may be there besides: ``required_features`` (feature -> shape), checked before the first
    step, and ``forwards``, a running count of network passes, which then appears in the results.
    """

    n_action_steps: int
    """How many actions of a chunk are executed before the next chunk is asked for."""

    def reset(self) -> None:
        """Forget the episodes so far; called before each group of episodes."""

    def predict_action_chunk(self, batch: Batch) -> "Tensor":
        """Return (B, T, A) actions in the environment's units, T >= ``n_action_steps``.

        ``batch`` holds, on the CPU, ``observation.state`` (B, d), ``observation.environment_state`` (B, e),
        ``observation.images.<camera>`` (B, 3, height, width) in [0, 1], all float32, ``task``, B sentences, and
        ``episode_index`` (B,) int64: which of the rollout's episodes each row is, for policies with a memory.
        """


def rollout(
    env_config: EnvConfig,
    policy: BatchedPolicy,
    *,
    episodes: int,
    seed: int,
    batch_size: int = 16,
    output: str | Path | None = None,
    videos: int | Sequence[int] = 0,
    notes: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RolloutResult:
    """Run ``episodes`` episodes; episode i is reset with ``seed + i``, whatever the batch size.

    Up to ``batch_size`` episodes step together, and one policy call serves all of them that have not ended.
    With a policy whose rows do not depend on each other the results are those of one episode at a time.

    Args:
        env_config: the environment.
        policy: see ``BatchedPolicy``.
        episodes: how many.
        seed: of the first episode.
        batch_size: episodes at once.
        output: new folder for ``episodes.jsonl``, ``summary.json`` and ``videos/``; None writes nothing.
        videos: film the first so many episodes, or these.
        notes: more to write into ``summary.json``, such as how the policy was set.
        progress: called with (finished, wanted) after every episode.

    Raises:
        ConfigError: ``output`` exists, or a number makes no sense.
        EnvError: the environment lacks a feature the policy requires, or the actions do not fit it or are not
            finite.
    """
    for name, value in (("episodes", episodes), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(bad_value(name, value, "an integer >= 1"))
    filmed = set(range(videos)) if isinstance(videos, int) else set(videos)
    if filmed and output is None:
        raise ConfigError(bad_value("videos", videos, "0 without an output folder"))
    settings = {
        "env": env_config.choice,
        "options": env_config.options(),
        "seed": seed,
        "batch_size": batch_size,
        "n_action_steps": policy.n_action_steps,
    }
    result = RolloutResult(settings={**settings, **(notes or {})})
    with ExitStack() as stack:
        envs: list[gym.Env] = []
        for _ in range(min(batch_size, episodes)):
            envs.append(env_config.build())
            stack.callback(envs[-1].close)
        check_features(envs[0], policy)
        writer = None if output is None else ResultWriter(Path(output))
        video_folder = None if writer is None else VideoFolder(writer.folder / "videos")
        for start in range(0, episodes, batch_size):
            group = [
                _Episode(index, seed + index, env)
                for index, env in zip(range(start, min(start + batch_size, episodes)), envs, strict=False)
            ]
            for episode in group:
                if episode.index in filmed and video_folder is not None:
                    fps = int(episode.env.metadata["render_fps"])
                    episode.video = video_folder.episode(episode.index, fps)
                    stack.callback(episode.video.abort)
            for episode in _run(group, policy):
                result.episodes.append(episode.result())
                if writer is not None:
                    writer.add(result.episodes[-1])
                if progress is not None:
                    progress(len(result.episodes), episodes)
        result.episodes.sort(key=lambda episode: episode.index)
        if writer is not None:
            writer.finish(result)
    return result


class _Episode:
    """One running episode and what it has gathered."""

    def __init__(self, index: int, seed: int, env: gym.Env) -> None:
        self.index, self.seed, self.env = index, seed, env
        self.video: EpisodeVideo | None = None
        self.ended = False
        self._return = 0.0
        self._length = 0
        self._latencies_ms: list[float] = []
        self._forwards: int | None = None

    def reset(self) -> None:
        self.observation, info = self.env.reset(seed=self.seed)
        self._success = bool(info["is_success"])
        if self.video is not None:
            self.video.film(self.env)

    def step(self, action: np.ndarray) -> None:
        if not np.isfinite(action).all():
            where = f"action of episode {self.index} (seed {self.seed}) at step {self._length}"
            raise EnvError(bad_value(where, action.tolist(), "finite numbers"))
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self._return += float(reward)
        self._length += 1
        self._success = self._success or bool(info["is_success"])
        limit = self.env.unwrapped.max_episode_steps  # type: ignore[attr-defined]
        self.ended = terminated or truncated or self._length >= limit
        if self.video is not None:
            self.video.film(self.env)
            if self.ended:
                self.video.close()

    def count(self, latency_ms: float, forwards: int | None) -> None:
        """Account for a policy call that served this episode."""
        self._latencies_ms.append(latency_ms)
        if forwards is not None:
            self._forwards = (self._forwards or 0) + forwards

    def result(self) -> EpisodeResult:
        return EpisodeResult(
            index=self.index,
            seed=self.seed,
            success=self._success,
            return_=self._return,
            length=self._length,
            chunk_latency_ms=round(median(self._latencies_ms), 3),
            forwards=self._forwards,
        )


def _run(group: list[_Episode], policy: BatchedPolicy) -> Iterable[_Episode]:
    """Step a group in lockstep; yield each episode when it ends."""
    policy.reset()
    for episode in group:
        episode.reset()
    alive = group
    while alive:
        chunk = _predict(alive, policy)
        rows = list(zip(alive, chunk, strict=True))
        for step in range(policy.n_action_steps):
            for episode, actions in rows:
                episode.step(actions[step])
                if episode.ended:
                    yield episode
            rows = [(episode, actions) for episode, actions in rows if not episode.ended]
            if not rows:
                break
        alive = [episode for episode, _ in rows]


def _predict(alive: list[_Episode], policy: BatchedPolicy) -> np.ndarray:
    """Ask for the next chunk of every running episode: (B, T, A) float32."""
    batch = to_batch([episode.observation for episode in alive])
    batch.update(labels([episode.env for episode in alive], [episode.index for episode in alive]))
    before = getattr(policy, "forwards", None)
    start = time.perf_counter()
    # The copy to the CPU is part of the latency: on a GPU the call returns before the work is done.
    chunk = policy.predict_action_chunk(batch).detach().float().cpu().numpy()
    latency_ms = 1000 * (time.perf_counter() - start)
    forwards = None if before is None else int(policy.forwards - before)  # type: ignore[attr-defined]
    size = alive[0].env.action_space.shape
    if chunk.ndim != 3 or len(chunk) != len(alive) or chunk.shape[2:] != size:
        allowed = f"({len(alive)}, steps, {size[0]}), as the environment's action"  # type: ignore[index]
        raise EnvError(bad_value("shape of the policy's chunk", chunk.shape, allowed))
    if chunk.shape[1] < policy.n_action_steps:
        allowed = f"at most {chunk.shape[1]}, the length of its chunks"
        raise EnvError(bad_value("n_action_steps of the policy", policy.n_action_steps, allowed))
    for episode in alive:
        episode.count(latency_ms, forwards)
    return np.asarray(chunk)


def to_batch(observations: Sequence[Observation]) -> Batch:
    """Stack raw observations under LeRobot's keys, images as float32 (B, 3, height, width) in [0, 1]."""
    import torch

    def stack(values: Iterable[Any], dtype: Any = np.float32) -> "Tensor":
        return torch.from_numpy(np.stack([np.asarray(value, dtype=dtype) for value in values]))

    batch: Batch = {"observation.state": stack(o["agent_pos"] for o in observations)}
    if "environment_state" in observations[0]:
        batch["observation.environment_state"] = stack(o["environment_state"] for o in observations)
    for camera in observations[0].get("pixels", {}):
        images = stack((o["pixels"][camera] for o in observations), np.uint8)
        batch[f"observation.images.{camera}"] = images.permute(0, 3, 1, 2).float() / 255
    return batch


def labels(envs: Sequence[gym.Env], episodes: Sequence[int]) -> Batch:
    """Return what a policy is told beside the observations: the task's sentence and the episode of each row."""
    import torch

    tasks = [env.unwrapped.task_description for env in envs]  # type: ignore[attr-defined]
    return {"task": tasks, "episode_index": torch.tensor(episodes)}


def env_features(env: gym.Env) -> dict[str, tuple[int, ...]]:
    """Return the shape of every feature that ``to_batch`` makes of this environment's observations."""
    spaces: Any = env.observation_space
    features = {"observation.state": spaces["agent_pos"].shape}
    if "environment_state" in spaces.spaces:
        features["observation.environment_state"] = spaces["environment_state"].shape
    for camera, space in spaces.spaces.get("pixels", {}).items():
        height, width, channels = space.shape
        features[f"observation.images.{camera}"] = (channels, height, width)
    return features


def check_features(env: gym.Env, policy: object) -> None:
    """Raise an EnvError that lists the required features that the environment lacks."""
    offered = env_features(env)
    required = getattr(policy, "required_features", None) or {}
    missing = [
        f"{name} {tuple(shape)}" for name, shape in required.items() if offered.get(name) != tuple(shape)
    ]
    if missing:
        allowed = "an environment with " + ", ".join(missing)
        raise EnvError(bad_value("env features", {name: list(s) for name, s in offered.items()}, allowed))


def chunk_latency_ms(
    env_config: EnvConfig, policy: BatchedPolicy, *, batch_size: int = 1, calls: int = 20
) -> float:
    """Return the median wall time in ms of a policy call that serves ``batch_size`` episodes.

    The first call is not counted, since it allocates and compiles.
    """
    env = env_config.build()
    try:
        check_features(env, policy)
        batch = to_batch([env.reset(seed=seed)[0] for seed in range(batch_size)])
    finally:
        env.close()
    times_ms = []
    for _ in range(calls + 1):
        start = time.perf_counter()
        policy.predict_action_chunk(batch).detach().cpu()
        times_ms.append(1000 * (time.perf_counter() - start))
    return median(times_ms[1:])
