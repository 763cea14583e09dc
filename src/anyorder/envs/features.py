"""An environment's observations under LeRobot's names, and whether a policy can work with them."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Observation
from anyorder.errors import EnvError

if TYPE_CHECKING:
    from torch import Tensor

FPS_TOLERANCE = 0.2
"""A policy's actions are steps in time: at a rate further off than this they mean another motion."""


CLOUD_SIZES = (3, 6)
"""Numbers of a point of a cloud: its place, and perhaps its colour."""


def flat_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a policy reads a feature of numbers in: tables become vectors, point clouds stay.

    A table of 3 or 6 columns is a point cloud, unless it is the action or ``observation.state``.

    >>> flat_shape("action", (2, 7)), flat_shape("observation.points", (64, 3)), flat_shape("observation.state", (2, 6))
    ((14,), (64, 3), (12,))
    """
    cloud = len(shape) == 2 and shape[1] in CLOUD_SIZES and name not in ("action", "observation.state")
    return shape if cloud or len(shape) == 1 else (math.prod(shape),)


def to_batch(episodes: Sequence[Sequence[Observation]]) -> dict[str, Any]:
    """Stack raw observations, one or more moments of each episode, the present last, under LeRobot's names.

    Returns:
        float32 (B, ...) or, with several moments, (B, moments, ...); images (..., 3, height, width) in [0, 1].
    """
    import torch

    first = episodes[0][-1]

    def stack(read: Any, dtype: Any = np.float32) -> "Tensor":
        values = [np.stack([np.asarray(read(moment), dtype=dtype) for moment in past]) for past in episodes]
        stacked = torch.from_numpy(np.stack(values))
        return stacked if stacked.shape[1] > 1 else stacked[:, 0]

    batch: dict[str, Any] = {"observation.state": stack(lambda o: o["agent_pos"])}
    if "environment_state" in first:
        batch["observation.environment_state"] = stack(lambda o: o["environment_state"])
    for camera in first.get("pixels", {}):
        images = stack(lambda o, camera=camera: o["pixels"][camera], np.uint8)
        batch[f"observation.images.{camera}"] = images.movedim(-1, -3).float() / 255
    return batch


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
    """Raise an EnvError unless the environment offers what the policy requires, at about its rate.

    Pictures may be of another size, as policies resize them, but not of another form (by more than 5 %).
    """
    check_offered(
        env_features(env),
        env.action_space.shape or (),
        float(env.metadata["render_fps"]),
        required=getattr(policy, "required_features", None) or {},
        action_size=getattr(policy, "action_size", None),
        fps=getattr(policy, "fps", None),
    )


def check_offered(
    offered: Mapping[str, tuple[int, ...]],
    action_shape: tuple[int, ...],
    rate_hz: float,
    *,
    required: Mapping[str, tuple[int, ...]],
    action_size: int | None,
    fps: float | None,
) -> None:
    """Compare what an environment offers with what a policy requires; None is not compared.

    Raises:
        EnvError: a feature is missing or of another shape, the actions differ in size, or the rate is too far off.
    """
    wrong = [name for name, shape in required.items() if not alike(offered.get(name), tuple(shape))]
    if wrong:
        shown = {name: list(shape) for name, shape in offered.items()}
        allowed = "an environment with " + ", ".join(f"{name} {tuple(required[name])}" for name in wrong)
        raise EnvError("env features", shown, allowed)
    if action_size is not None and action_shape != (action_size,):
        raise EnvError("env action", list(action_shape), f"({action_size},), as the policy's")
    if fps is not None and abs(rate_hz / fps - 1) > FPS_TOLERANCE:
        allowed = f"{fps:g} Hz, of the policy's training data, or at most 20 % off"
        raise EnvError("control rate of the env", f"{rate_hz:g} Hz", allowed)


def alike(offered: tuple[int, ...] | None, required: tuple[int, ...]) -> bool:
    """Tell whether a feature fits: the same shape, or a picture (channels, height, width) of the same form.

    >>> alike((6,), (6,)), alike((3, 480, 640), (3, 96, 128)), alike((3, 96, 96), (3, 96, 128)), alike(None, (6,))
    (True, True, False, False)
    """
    if offered is None or len(offered) != len(required):
        return False
    if len(required) < 3:
        return tuple(offered) == tuple(required)
    stretch = (offered[1] * required[2]) / (offered[2] * required[1])
    return offered[0] == required[0] and abs(stretch - 1) <= 0.05
