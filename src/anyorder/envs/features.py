"""Whether a policy can work with what an environment offers."""

import math
from collections.abc import Mapping

import gymnasium as gym

from anyorder.envs.lerobot_names import policy_shapes
from anyorder.errors import EnvError

FPS_TOLERANCE = 0.2
"""The share by which a control rate may differ from that of the training data: an action is a step in time, and at a
rate further off it is another motion."""

CLOUD_SIZES = (3, 6)
"""A point of a cloud has three numbers, its place, or six, its place and its color."""


def flat_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a policy reads a feature of numbers in: tables become vectors, point clouds stay.

    A table of 3 or 6 columns is a point cloud, unless it is the action or ``observation.state``.

    >>> flat_shape("action", (2, 7)), flat_shape("observation.points", (64, 3)), flat_shape("observation.state", (2, 6))
    ((14,), (64, 3), (12,))
    """
    cloud = len(shape) == 2 and shape[1] in CLOUD_SIZES and name not in ("action", "observation.state")
    return shape if cloud or len(shape) == 1 else (math.prod(shape),)


def check_features(env: gym.Env, policy: object) -> None:
    """Raise an EnvError unless the environment offers what the policy requires, at about its rate.

    Pictures may be of another size, as policies resize them, but not of another form (by more than 5 %).
    """
    check_offered(
        policy_shapes(env),
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
