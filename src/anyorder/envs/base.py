"""What every environment and every expert offers: the one interface that recording and rollouts know."""

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from anyorder.errors import EnvError, installed
from anyorder.settings import Choice

Observation = dict[str, Any]
"""A raw observation holds ``agent_pos`` (float32, what the robot itself feels), ``environment_state`` (float32, object
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
        """Make the environment.

        Raises:
            EnvError: its simulator is not installed.
        """

    @abstractmethod
    def expert(self) -> Expert:
        """Make the task's scripted expert.

        Raises:
            EnvError: see ``build``.
        """


def require_simulator(package: str, extra: str) -> None:
    """Raise an EnvError that names the extra to install unless a simulator's package is there."""
    if importlib.util.find_spec(package) is None:
        raise EnvError("env", extra, installed("an installed simulator", extra))
