"""The two simulated ALOHA tasks: the simulator and its scripted expert."""

from anyorder.envs.aloha.env import AlohaConfig

__all__ = ["AlohaConfig"]
