"""LeRobot imports this package by its name prefix; importing it makes this package at home in LeRobot's commands.

It registers the policy type ``anyorder`` and an environment type ``anyorder_<name>`` for every environment, lets bad
input end a command with one line, and speeds up the loading of data where ``ANYORDER_FAST_LOADING=1`` asks for it.
"""

import anyorder.plugin.envs  # noqa: F401  (registers the environment types)
from anyorder.plugin import excepthook, fast_loading
from anyorder.policies.configuration_anyorder import AnyOrderConfig

__all__ = ["AnyOrderConfig"]

excepthook.install()
with excepthook.one_line():
    fast_loading.install_if_asked()
