"""Closed-loop rollouts of a policy, many episodes at once."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
import numpy as np

from anyorder.envs.base import EnvConfig
from anyorder.envs.features import check_features
from anyorder.envs.lerobot_names import to_batch
from anyorder.errors import ConfigError, EnvError, NotFiniteError
from anyorder.folders import whole_folder
from anyorder.rollouts.episode import RunningEpisode
from anyorder.rollouts.results import ResultWriter, RolloutResult
from anyorder.rollouts.videos import VideoFolder
from anyorder.settings import to_plain

if TYPE_CHECKING:
    from torch import Tensor

Batch = dict[str, Any]


class BatchedPolicy(Protocol):
    """What a rollout needs of a policy.

    More attributes may be there: ``required_features`` (feature -> shape), ``action_size`` and ``fps``, checked
    before the first step; ``n_obs_steps``, for a policy that observes more than the present; ``blend``, for one whose
    chunks overlap (``blending.blended``), at most the steps of a chunk that are not executed; ``calls``, a running
    count of network passes, which then appears in the results.
    """

    n_action_steps: int
    """How many actions of a chunk are executed before the next chunk is asked for."""

    def reset(self) -> None:
        """Forget the episodes so far; called before each group of episodes."""

    def predict_action_chunk(self, batch: Batch) -> "Tensor":
        """Return (B, T, A) actions in the environment's units, T >= ``n_action_steps``.

        ``batch`` holds, on the CPU, ``observation.state`` (B, d), ``observation.environment_state`` (B, e),
        ``observation.images.<camera>`` (B, 3, height, width) in [0, 1], all float32, ``task``, B sentences, and
        ``episode_index`` (B,) int64: which of the rollout's episodes each row is, for policies with a memory. With
        ``n_obs_steps`` > 1 observations are (B, history, ...), the present last.
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
        output: new folder for ``episodes.jsonl``, ``summary.json`` and ``videos/``, which appears when all of it is
            there; None writes nothing.
        videos: number of episodes to film, from the first on, or which ones.
        notes: more to write into ``summary.json``, such as how the policy was set.
        progress: called with (finished, wanted) after every episode.

    Raises:
        ConfigError: ``output`` exists, or a number makes no sense.
        EnvError: the environment lacks a feature the policy requires or runs at another rate, or the actions do not
            fit it.

    An episode whose observation, action or reward is not finite ends as failed, with a ``reason``; the others go on.
    """
    for name, value in (("episodes", episodes), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(name, value, "an integer >= 1")
    filmed = set(range(videos)) if isinstance(videos, int) else set(videos)
    if filmed and output is None:
        raise ConfigError("videos", videos, "0 without an output folder")
    settings = {
        "env": to_plain(env_config),
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
        writer = None
        if output is not None:
            writer = ResultWriter(stack.enter_context(whole_folder(Path(output), "output")))
        video_folder = None if writer is None else VideoFolder(writer.folder / "videos")
        started = time.perf_counter()
        for start in range(0, episodes, batch_size):
            group = [
                RunningEpisode(index, seed + index, env, getattr(policy, "n_obs_steps", 1))
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
        result.seconds = time.perf_counter() - started
        if writer is not None:
            writer.finish(result)
    return result


def _run(group: list[RunningEpisode], policy: BatchedPolicy) -> Iterable[RunningEpisode]:
    """Step a group in lockstep; yield each episode when it ends."""
    policy.reset()
    for episode in group:
        episode.reset()
        if episode.ended:
            yield episode
    alive = [episode for episode in group if not episode.ended]
    while alive:
        rows = list(zip(alive, _chunks(alive, policy), strict=True))
        for episode in alive:
            if episode.ended:
                yield episode
        executed, blend = policy.n_action_steps, getattr(policy, "blend", 0)
        rows = [(episode, episode.blend(chunk, executed, blend)) for episode, chunk in rows if not episode.ended]
        if not rows:
            break
        for step in range(policy.n_action_steps):
            for episode, actions in rows:
                episode.step(actions[step])
                if episode.ended:
                    yield episode
            rows = [(episode, actions) for episode, actions in rows if not episode.ended]
            if not rows:
                break
        alive = [episode for episode, _ in rows]


def _chunks(alive: list[RunningEpisode], policy: BatchedPolicy) -> list[np.ndarray]:
    """Ask for the next chunk of every running episode, (T, A) each; those that cannot have one end as failed."""
    try:
        return list(_predict(alive, policy))
    except NotFiniteError as error:
        if not error.rows and len(alive) > 1:
            # The policy does not say whose fault it is: each is asked for alone.
            return [_chunks([episode], policy)[0] for episode in alive]
        for episode in [alive[row] for row in error.rows] or alive:
            episode.fail(str(error))
    rest = [episode for episode in alive if not episode.ended]
    found = dict(zip(map(id, rest), _chunks(rest, policy) if rest else [], strict=True))
    return [found.get(id(episode), np.empty((0, 0))) for episode in alive]


def _predict(alive: list[RunningEpisode], policy: BatchedPolicy) -> np.ndarray:
    """Ask for the next chunk of every running episode: (B, T, A) float32."""
    batch = to_batch([episode.observations for episode in alive])
    batch.update(labels([episode.env for episode in alive], [episode.index for episode in alive]))
    before = getattr(policy, "calls", None)
    start = time.perf_counter()
    # The copy to the CPU is part of the latency: on a GPU the call returns before the work is done.
    chunk = policy.predict_action_chunk(batch).detach().float().cpu().numpy()
    latency_ms = 1000 * (time.perf_counter() - start)
    calls = None if before is None else int(policy.calls - before)  # type: ignore[attr-defined]
    size = alive[0].env.action_space.shape
    if chunk.ndim != 3 or len(chunk) != len(alive) or chunk.shape[2:] != size:
        allowed = f"({len(alive)}, steps, {size[0]}), as the environment's action"  # type: ignore[index]
        raise EnvError("shape of the policy's chunk", chunk.shape, allowed)
    if chunk.shape[1] < policy.n_action_steps:
        allowed = f"at most {chunk.shape[1]}, the length of its chunks"
        raise EnvError("n_action_steps of the policy", policy.n_action_steps, allowed)
    for episode in alive:
        episode.count(latency_ms, calls)
    return np.asarray(chunk)


def labels(envs: Sequence[gym.Env], episodes: Sequence[int]) -> Batch:
    """Return what a policy is told beside the observations: the task's sentence and the episode of each row."""
    import torch

    tasks = [env.unwrapped.task_description for env in envs]  # type: ignore[attr-defined]
    return {"task": tasks, "episode_index": torch.tensor(episodes)}


def chunk_latency_ms(
    env_config: EnvConfig,
    policy: BatchedPolicy,
    *,
    batch_size: int = 1,
    calls: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the median time in ms of a policy call that begins ``batch_size`` episodes.

    The first call is not counted, since it allocates and compiles. ``clock`` gives seconds: wall time, or
    ``time.process_time``, which on one thread is the latency on an idle core, whatever else runs.

    Raises:
        NotFiniteError: the policy refuses what it sees there.
    """
    env = env_config.build()
    try:
        check_features(env, policy)
        history = getattr(policy, "n_obs_steps", 1)
        batch = to_batch([[env.reset(seed=seed)[0]] * history for seed in range(batch_size)])
        batch.update(labels([env] * batch_size, range(batch_size)))
    finally:
        env.close()
    times_ms = []
    for _ in range(calls + 1):
        policy.reset()
        start = clock()
        policy.predict_action_chunk(batch).detach().cpu()
        times_ms.append(1000 * (clock() - start))
    return median(times_ms[1:])
