"""PushT: the simulator, its scripted expert, and the geometry of pushes."""

from anyorder.envs.pusht.env import PushtConfig

__all__ = ["PushtConfig"]
