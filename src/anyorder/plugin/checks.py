"""Whether a policy fits an environment, said in one line before the first step."""

import sys
from typing import Any

from lerobot.configs import FeatureType, PreTrainedConfig
from lerobot.envs.configs import EnvConfig as LeRobotEnvConfig
from lerobot.envs.utils import env_to_policy_features

from anyorder.errors import EnvError, bad_value
from anyorder.policies.configuration_anyorder import AnyOrderConfig

RATE_TOLERANCE = 0.2
"""How far an environment's control rate may be off the policy's, as a part of the latter."""


def check_env(policy_config: PreTrainedConfig, env_config: LeRobotEnvConfig) -> None:
    """Check that an environment offers what a policy reads and takes what it gives, at about the same rate.

    Raises:
        EnvError: a feature is missing or has another shape, the action has, or the rate is off by more than 20 %.
    """
    offered = {name: tuple(f.shape) for name, f in env_to_policy_features(env_config).items()}
    wanted = {**(policy_config.input_features or {}), **(policy_config.output_features or {})}
    shapes = {
        name: tuple(feature.shape)
        for name, feature in wanted.items()
        if feature.type is not FeatureType.VISUAL or name in offered or not does_without_cameras(policy_config)
    }
    check_shapes(shapes, offered, f"env {env_config.type}")
    fps = getattr(policy_config, "fps", None)
    if fps is not None and abs(env_config.fps - fps) > RATE_TOLERANCE * fps:
        allowed = f"about {fps:g}, the rate the policy learnt at (at most {RATE_TOLERANCE:.0%} off)"
        raise EnvError(bad_value(f"env {env_config.type} fps", env_config.fps, allowed))


def check_shapes(
    wanted: dict[str, tuple[int, ...]], offered: dict[str, tuple[int, ...]], who: str
) -> None:
    """Raise an EnvError that names every feature of ``wanted`` that ``offered`` lacks or has in another shape."""
    wrong = [
        f"{name} {list(shape)} (there: {list(offered[name]) if name in offered else 'none'})"
        for name, shape in wanted.items()
        if offered.get(name) != shape
    ]
    if wrong:
        given = {name: list(shape) for name, shape in offered.items()}
        raise EnvError(bad_value(f"features of {who}", given, "those of the policy: " + ", ".join(wrong)))


def does_without_cameras(policy_config: PreTrainedConfig) -> bool:
    """Tell whether the policy has learnt to act when a camera is missing."""
    return isinstance(policy_config, AnyOrderConfig) and bool(policy_config.encoder.vision.dropout)


def policy_config_of_caller() -> Any:
    """Return the policy's settings if ``lerobot.envs.make_env_pre_post_processors`` is calling, else None.

    That function is where lerobot-eval and lerobot-train bring environment and policy together, before the first
    step, but it keeps the policy from the environment's own ``get_env_processors``: so it is read off the stack.
    """
    frame = sys._getframe(2)
    if frame.f_code.co_name != "make_env_pre_post_processors":
        return None
    return frame.f_locals.get("policy_cfg")
