"""One environment as LeRobot's evaluation needs it; imports neither LeRobot nor torch, as its workers do not."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym

from anyorder.envs.base import EnvConfig, Observation


class SingleEpisode(gym.Wrapper):
    """Plays one episode and then stands still until told to begin another.

    LeRobot steps a batch of environments until the slowest has ended, and adds the reward of one step after the end
    of an episode to its return (``lerobot_eval.eval_policy``). Here a step after the end simulates nothing, repeats
    the last observation and is worth 0, and Gymnasium's automatic reset does nothing either: returns are exact, and
    ended episodes cost nothing. LeRobot's ``FreezeAfterEpisodeEnd`` does the same but would load torch.

    Args:
        env: the environment.
        begin: name of the option of ``reset`` that begins another episode.
    """

    def __init__(self, env: gym.Env, begin: str) -> None:
        super().__init__(env)
        self._begin = begin
        self._end: tuple[Observation, float, bool, bool, dict[str, Any]] | None = None
        self._last_picture: Any = None

    @property
    def _max_episode_steps(self) -> int:
        """LeRobot's evaluation asks for it under this name."""
        return int(self.env.unwrapped.max_episode_steps)  # type: ignore[attr-defined]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode, or repeat the last observation where none is asked for after an end."""
        if self._end is not None and not (options or {}).get(self._begin):
            return self._end[0], self._end[4]
        self._end = self._last_picture = None
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Step, or repeat the end of the episode with reward 0."""
        if self._end is not None:
            return self._end
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self._end = observation, 0.0, terminated, truncated, info
        return observation, float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Return a picture; after the end always the same one, drawn once."""
        if self._end is None:
            return self.env.render()
        if self._last_picture is None:
            self._last_picture = self.env.render()
        return self._last_picture


def build(config: EnvConfig, begin: str) -> gym.Env:
    """Make the environment for one place of a vector environment; see ``SingleEpisode``."""
    return SingleEpisode(config.build(), begin)


@contextmanager
def without_main() -> Iterator[None]:
    """Keep new worker processes from importing the running program, which would load LeRobot and torch in each."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
