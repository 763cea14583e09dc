"""One episode of a rollout while it runs: its observations, and what it adds up to."""

from collections import deque
from statistics import median

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Observation
from anyorder.rollouts.blending import blended
from anyorder.rollouts.results import EpisodeResult
from anyorder.rollouts.videos import EpisodeVideo


class RunningEpisode:
    """One episode that runs, and what it has gathered.

    Args:
        index: its number in the rollout.
        seed: resets its environment.
        env: plays this episode alone.
        history: moments that a policy observes, the present one last.
    """

    def __init__(self, index: int, seed: int, env: gym.Env, history: int) -> None:
        self.index, self.seed, self.env = index, seed, env
        self.observations: deque[Observation] = deque(maxlen=history)
        self.video: EpisodeVideo | None = None
        self.former: np.ndarray | None = None
        self.ended = False
        self.reason: str | None = None
        self._return = 0.0
        self._max_reward: float | None = None
        self._length = 0
        self._latencies_ms: list[float] = []
        self._calls: int | None = None

    def reset(self) -> None:
        """Begin the episode and look at its first moment."""
        observation, info = self.env.reset(seed=self.seed)
        # What came before the first moment repeats it, as where an episode of a dataset begins.
        self.observations.extend([observation] * (self.observations.maxlen or 1))
        self._success = bool(info["is_success"])
        if self.video is not None:
            self.video.film(self.env)
        self._look(observation)

    def blend(self, chunk: np.ndarray, executed: int, steps: int) -> np.ndarray:
        """Return a new chunk, its first ``steps`` actions blended with the rest of the one before.

        Args:
            chunk: (time steps, action size).
            executed: how many actions of each chunk are.
            steps: see ``blended``.
        """
        if steps and self.former is not None:
            chunk = blended(chunk, self.former, steps)
        self.former = chunk[executed:]
        return chunk

    def step(self, action: np.ndarray) -> None:
        """Play one step with ``action``; the episode may end with it."""
        if not np.isfinite(action).all():
            self.fail(f"action not finite: {action.tolist()}")
            return
        observation, given, terminated, truncated, info = self.env.step(action)
        reward = float(given)
        self.observations.append(observation)
        self._length += 1
        if not np.isfinite(reward):
            self.fail(f"reward not finite: {reward}")
            return
        self._return += reward
        self._max_reward = reward if self._max_reward is None else max(self._max_reward, reward)
        self._success = self._success or bool(info["is_success"])
        limit = self.env.unwrapped.max_episode_steps  # type: ignore[attr-defined]
        self.ended = terminated or truncated or self._length >= limit
        if self.video is not None:
            self.video.film(self.env)
            if self.ended:
                self.video.close()
        if not self.ended:
            self._look(observation)

    def count(self, latency_ms: float, calls: int | None) -> None:
        """Account for a policy call that served this episode."""
        self._latencies_ms.append(latency_ms)
        if calls is not None:
            self._calls = (self._calls or 0) + calls

    def fail(self, reason: str) -> None:
        """End the episode as failed."""
        self.ended, self._success = True, False
        self.reason = f"step {self._length}: {reason}"
        if self.video is not None:
            self.video.close()

    def result(self) -> EpisodeResult:
        """Return what there is to say of the episode once it has ended."""
        return EpisodeResult(
            index=self.index,
            seed=self.seed,
            success=self._success,
            return_=self._return,
            max_reward=self._max_reward or 0.0,
            length=self._length,
            chunk_latency_ms=round(median(self._latencies_ms), 3) if self._latencies_ms else None,
            calls=self._calls,
            reason=self.reason,
        )

    def _look(self, observation: Observation) -> None:
        """Fail where an observation holds a number that is not finite, before a policy sees it."""
        for name in ("agent_pos", "environment_state"):
            values = np.asarray(observation.get(name, 0.0))
            if not np.isfinite(values).all():
                wrong = np.flatnonzero(~np.isfinite(values.ravel())).tolist()
                self.fail(f"observation not finite: {name}, dimensions {wrong}")
                return
