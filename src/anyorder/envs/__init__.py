"""Environments and their scripted experts, chosen by name; simulators load only when one is built."""

from anyorder.choices import import_members
from anyorder.envs.base import EnvConfig, Expert, Observation
from anyorder.envs.gl import choose_gl_backend

choose_gl_backend()
import_members(__name__, list(__path__))

__all__ = ["EnvConfig", "Expert", "Observation"]
