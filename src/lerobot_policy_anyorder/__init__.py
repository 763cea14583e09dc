"""LeRobot imports this package by its name prefix; importing it makes this package at home in LeRobot's commands.

It registers the policy type ``anyorder`` and an environment type ``anyorder_<name>`` for every environment.
"""

import anyorder.plugin.envs  # noqa: F401  (registers the environment types)
from anyorder.policies.configuration_anyorder import AnyOrderConfig

__all__ = ["AnyOrderConfig"]
