"""The 50 tasks of Meta-World: the simulator and its scripted experts."""

from anyorder.envs.metaworld.env import MetaworldConfig

__all__ = ["MetaworldConfig"]
