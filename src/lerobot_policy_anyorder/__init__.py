"""LeRobot imports this package by its name prefix; importing it registers the ``anyorder`` policy type."""

from anyorder.policies.configuration_anyorder import AnyOrderConfig

__all__ = ["AnyOrderConfig"]
