"""What the simulated environments share: an episode's beginning and end, observations, pictures."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, override

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.base import EnvConfig, Observation
from anyorder.envs.rendering import Renderers
from anyorder.errors import MAX_SIDE, ConfigError
from anyorder.settings import setting

Array = npt.NDArray[Any]

RENDER_SIZE = (480, 360)
"""Width and height in pixels of the pictures that ``render`` gives, unless an environment says otherwise."""


def cameras_among(*names: str) -> Any:
    """Declare the setting ``cameras`` of a simulator that has cameras of these names, the usual one first."""
    meaning = f"Cameras to observe, the usual one first: {', '.join(names)}. Empty leaves pixels out."
    return setting([], meaning, among=names)


@dataclass
class SimulatorConfig(EnvConfig):
    """The settings that every simulator has; a subclass says by ``cameras_among`` what cameras there are."""

    cameras: list[str] = cameras_among()
    image_width: int = setting(96, "Width of a picture, in pixels.", least=1, most=MAX_SIDE)
    image_height: int = setting(96, "Height of a picture, in pixels.", least=1, most=MAX_SIDE)

    tasks: ClassVar[Iterable[str]] = ()
    """The names of the tasks, each of which is a preset; empty where there is one task only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.cameras)) < len(self.cameras):
            raise ConfigError("cameras", list(self.cameras), "each camera at most once")

    @classmethod
    @override
    def presets(cls) -> dict[str, dict[str, Any]]:
        return {f"{cls.choice}_{task}": {"task": task} for task in cls.tasks} or super().presets()


class SimulatorEnv(gym.Env[Observation, Array]):
    """Base of the simulated environments: what ``EnvConfig.build`` promises, around a simulator.

    A subclass names its ``fps``, robot and ``view``, makes its simulator and then calls ``__init__``. It writes
    ``_begin`` (an episode), ``step``, which ends with ``self._outcome(...)``, ``_state`` and ``_picture``.
    Randomness of an episode comes from the seed of ``reset`` alone.

    Args:
        config: its task, cameras and the size of their pictures.
        description: one English sentence that says what the task is.
        max_episode_steps: steps before an episode is cut off.
        state_names: one for each dimension of ``agent_pos``.
        environment_names: one for each dimension of ``environment_state``.
        action_names: one for each dimension of the action.
        action_space: of float32.
    """

    fps: ClassVar[int]
    """The control rate in Hz."""
    robot_type: ClassVar[str | None] = None
    """The name of the robot in a recorded dataset's ``meta/info.json``."""
    view: ClassVar[str]
    """The camera that ``render`` looks through."""

    def __init__(
        self,
        config: SimulatorConfig,
        *,
        description: str,
        max_episode_steps: int,
        state_names: Sequence[str],
        environment_names: Sequence[str],
        action_names: Sequence[str],
        action_space: gym.spaces.Box,
    ) -> None:
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": self.fps}
        self.render_mode: str | None = "rgb_array"
        self.task = config.task
        self.task_description = description
        self.max_episode_steps = max_episode_steps
        self.state_names = list(state_names)
        self.environment_names = list(environment_names)
        self.action_names = list(action_names)
        self.action_space = action_space
        self.observation_space = observation_space(len(self.state_names), len(self.environment_names), config)
        self._cameras = tuple(config.cameras)
        self._picture_size = config.image_width, config.image_height
        self._renderers = Renderers()
        self._steps = 0

    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode that ``seed`` determines fully; without one it goes on from the last seed given."""
        super().reset(seed=seed)
        self._steps = 0
        self._begin(seed)
        return self._observe(), {"is_success": False}

    def _drawn(self, seed: int | None) -> int:
        """Return ``seed``, or one drawn from the environment's own generator: for a simulator that wants one."""
        return int(self.np_random.integers(2**31)) if seed is None else seed

    def _outcome(
        self, reward: float, success: bool, **info: Any
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Count a step and return what ``step`` returns: success ends an episode, ``max_episode_steps`` cut it off."""
        self._steps += 1
        truncated = self._steps >= self.max_episode_steps and not success
        return self._observe(), float(reward), success, truncated, {"is_success": success, **info}

    def _observe(self) -> Observation:
        """Return the observation of this instant."""
        agent_pos, environment_state = self._state()
        observation: Observation = {
            "agent_pos": np.array(agent_pos, dtype=np.float32),
            "environment_state": np.array(environment_state, dtype=np.float32),
        }
        if self._cameras:
            pictures = {camera: self._picture(camera, self._picture_size) for camera in self._cameras}
            observation["pixels"] = pictures
        return observation

    @abstractmethod
    def _begin(self, seed: int | None) -> None:
        """Put everything in its place for a new episode."""

    @abstractmethod
    def _state(self) -> tuple[Any, Any]:
        """Return ``agent_pos`` and ``environment_state`` of this instant; they are copied."""

    @abstractmethod
    def _picture(self, camera: str, size: tuple[int, int]) -> Array:
        """Return what a camera sees, (height, width, 3) uint8; ``size`` is width and height."""

    @override
    def render(self) -> Array | None:
        """Return a picture of the whole scene, (360, 480, 3) uint8, or None without a render mode."""
        return self._picture(self.view, RENDER_SIZE) if self.render_mode == "rgb_array" else None

    @override
    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._renderers.close()


def observation_space(state: int, environment: int, config: SimulatorConfig) -> gym.spaces.Dict:
    """Return the space of an ``Observation``; without cameras it has no ``pixels``.

    Args:
        state: size of ``agent_pos``.
        environment: size of ``environment_state``.
        config: its cameras and the size of their pictures.
    """
    sizes = {"agent_pos": state, "environment_state": environment}
    spaces: dict[str, gym.Space[Any]] = {
        name: gym.spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in sizes.items()
    }
    if config.cameras:
        picture = gym.spaces.Box(0, 255, (config.image_height, config.image_width, 3), np.uint8)
        spaces["pixels"] = gym.spaces.Dict(dict.fromkeys(config.cameras, picture))
    return gym.spaces.Dict(spaces)
