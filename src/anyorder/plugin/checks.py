"""Whether a policy fits an environment, said in one line before the first step of LeRobot's commands."""

import sys
from typing import Any

from lerobot.configs import PreTrainedConfig
from lerobot.envs.configs import EnvConfig as LeRobotEnvConfig
from lerobot.envs.utils import env_to_policy_features
from lerobot.utils.constants import ACTION

from anyorder.envs.features import check_offered
from anyorder.policies.checks import action_size, required, shapes


def check_env(policy_config: PreTrainedConfig, env_config: LeRobotEnvConfig) -> None:
    """Check that an environment offers what a policy reads and takes what it gives, at about the same rate.

    Raises:
        EnvError: see ``anyorder.envs.features.check_offered``.
    """
    offered = shapes(env_to_policy_features(env_config))
    check_offered(
        offered,
        offered.get(ACTION, ()),
        env_config.fps,
        required=required(policy_config),
        action_size=action_size(policy_config),
        fps=getattr(policy_config, "fps", None),
    )


def policy_config_of_caller() -> Any:
    """Return the policy's settings if ``lerobot.envs.make_env_pre_post_processors`` is calling, else None.

    That function is where lerobot-eval and lerobot-train bring environment and policy together, before the first
    step, but it keeps the policy from the environment's own ``get_env_processors``: so it is read off the stack.
    """
    frame = sys._getframe(2)
    if frame.f_code.co_name != "make_env_pre_post_processors":
        return None
    return frame.f_locals.get("policy_cfg")
