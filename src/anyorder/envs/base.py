"""What every environment and every expert offers: the one interface that recording and rollouts know."""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from anyorder.errors import EnvError, installed
from anyorder.settings import Choice

Observation = dict[str, Any]
"""Raw observation: ``agent_pos`` (float32, what the robot itself feels), ``environment_state`` (float32, object
poses, which a real arm never has) and, with cameras, ``pixels`` {camera: (height, width, 3) uint8}."""


class Expert(Protocol):
    """A scripted demonstrator. It may read the simulator, which a policy may not."""

    def reset(self, env: gym.Env, seed: int) -> None:
        """Plan for the episode that ``env`` has just been reset to; ``seed`` drives its noise."""

    def act(self, env: gym.Env, observation: Observation) -> np.ndarray:
        """Return the action for this step, in the environment's action units."""


@dataclass
class EnvConfig(Choice, ABC):
    """Settings of an environment.

    ``build()`` returns a Gymnasium environment (Dict observation as ``Observation``, Box action,
    ``info["is_success"]`` on every reset and step, ``metadata["render_fps"]`` = control rate in Hz) whose
    unwrapped object has these attributes: ``task`` (short name), ``task_description`` (one English sentence),
    ``max_episode_steps``, ``state_names``, ``environment_names``, ``action_names`` (lists of str, one per dimension).
    """

    task: str = ""

    @abstractmethod
    def build(self) -> gym.Env:
        """Make the environment."""

    @abstractmethod
    def expert(self) -> Expert:
        """Make the task's scripted expert."""


def observation_space(
    state: int, environment: int, cameras: Sequence[str], height: int, width: int
) -> gym.spaces.Dict:
    """Return the space of an ``Observation``.

    Args:
        state: size of ``agent_pos``.
        environment: size of ``environment_state``.
        cameras: names; none leaves ``pixels`` out.
        height: of a picture, in pixels.
        width: likewise.
    """
    sizes = {"agent_pos": state, "environment_state": environment}
    spaces: dict[str, gym.Space[Any]] = {
        name: gym.spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in sizes.items()
    }
    if cameras:
        picture = gym.spaces.Box(0, 255, (height, width, 3), np.uint8)
        spaces["pixels"] = gym.spaces.Dict(dict.fromkeys(cameras, picture))
    return gym.spaces.Dict(spaces)


def require_simulator(package: str, extra: str) -> None:
    """Raise an EnvError that names the extra to install unless a simulator's package is there."""
    if importlib.util.find_spec(package) is None:
        raise EnvError("env", extra, installed("an installed simulator", extra))
