"""PushT: the simulator, its scripted expert, and the geometry of pushes."""

from anyorder.envs.pusht.env import PushTConfig

__all__ = ["PushTConfig"]
