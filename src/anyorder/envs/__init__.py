"""Environments and their scripted experts, chosen by name; simulators load only when one is built."""

from anyorder.envs.base import EnvConfig, Expert, Observation
from anyorder.envs.gl import choose_gl_backend
from anyorder.settings import import_members

choose_gl_backend()
import_members(__name__, list(__path__))

__all__ = ["EnvConfig", "Expert", "Observation"]
