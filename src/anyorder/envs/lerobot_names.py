"""Observations under LeRobot's names: values, shapes and features, for rollouts, recordings and LeRobot's commands.

============================ ===================================== ========================
``Observation``              LeRobot                               dimensions
============================ ===================================== ========================
``agent_pos``                ``observation.state``                 ``state_names``
``environment_state``        ``observation.environment_state``     ``environment_names``
``pixels`` of a camera       ``observation.images.<camera>``       height, width, channels
============================ ===================================== ========================
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Observation

if TYPE_CHECKING:
    from torch import Tensor

NUMBERS = {"agent_pos": "observation.state", "environment_state": "observation.environment_state"}
"""LeRobot's names of the two vectors that an ``Observation`` may hold."""
NAMES = {"agent_pos": "state_names", "environment_state": "environment_names"}
"""The attributes of an environment that name their dimensions."""
IMAGES = "observation.images."
"""LeRobot's name of a camera begins with this."""


@dataclass(frozen=True)
class Feature:
    """What one entry of an environment's observations looks like.

    Attributes:
        raw: its key in the ``Observation``; of a camera its LeRobot name.
        shape: of one value, as the environment gives it: pictures are (height, width, channels).
    """

    raw: str
    shape: tuple[int, ...]

    @property
    def is_picture(self) -> bool:
        """Whether it is what a camera sees."""
        return self.raw.startswith(IMAGES)


def observation_features(env: gym.Env) -> dict[str, Feature]:
    """Return the features of an environment's observations by LeRobot's names."""
    spaces: Any = env.observation_space
    features = {name: Feature(raw, spaces[raw].shape) for raw, name in NUMBERS.items() if raw in spaces.spaces}
    for camera, space in spaces.spaces.get("pixels", {}).items():
        name = f"{IMAGES}{camera}"
        features[name] = Feature(name, space.shape)
    return features


def dimension_names(env: gym.Env) -> dict[str, list[str]]:
    """Return the names of the dimensions of the vectors in an environment's observations, by LeRobot's names."""
    return {
        name: list(getattr(env.unwrapped, NAMES[feature.raw]))
        for name, feature in observation_features(env).items()
        if not feature.is_picture
    }


def policy_shapes(env: gym.Env) -> dict[str, tuple[int, ...]]:
    """Return the shape of every feature that ``to_batch`` makes of this environment's observations."""
    return {
        name: (feature.shape[2], *feature.shape[:2]) if feature.is_picture else feature.shape
        for name, feature in observation_features(env).items()
    }


def named_values(observation: Observation) -> dict[str, np.ndarray]:
    """Return the values of an observation by LeRobot's names: float32 vectors, uint8 (height, width, 3) pictures.

    They may be the very arrays of the observation.

    >>> list(named_values({"agent_pos": [0.5], "pixels": {"top": np.zeros((2, 2, 3))}}))
    ['observation.state', 'observation.images.top']
    """
    values = {
        name: np.asarray(observation[raw], dtype=np.float32) for raw, name in NUMBERS.items() if raw in observation
    }
    for camera, picture in observation.get("pixels", {}).items():
        values[f"{IMAGES}{camera}"] = np.asarray(picture, dtype=np.uint8)
    return values


def to_batch(episodes: Sequence[Sequence[Observation]]) -> dict[str, "Tensor"]:
    """Stack the observations of several episodes, each with its history, the present moment last.

    Returns:
        By LeRobot's names, float32 (B, ...) or, with a history of several moments, (B, history, ...); pictures are
        (..., 3, height, width) in [0, 1].
    """
    import torch

    named = [[named_values(moment) for moment in past] for past in episodes]
    batch = {}
    for name in named[0][-1]:
        stacked = torch.from_numpy(np.stack([np.stack([moment[name] for moment in past]) for past in named]))
        values = stacked if stacked.shape[1] > 1 else stacked[:, 0]
        batch[name] = values.movedim(-1, -3).float() / 255 if name.startswith(IMAGES) else values
    return batch
