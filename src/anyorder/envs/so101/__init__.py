"""Table-top tasks for a simulated SO-101 arm, with scripted experts.

Importing this module is cheap: MuJoCo is loaded by ``build()``.
"""

from dataclasses import dataclass
from typing import Any, override

import gymnasium as gym

from anyorder.envs.base import EnvConfig, Expert
from anyorder.envs.so101.tasks import TASKS, camel
from anyorder.errors import MAX_COUNT, MAX_SIDE, ConfigError
from anyorder.settings import setting

_CHOICES = {"task": TASKS, "servo": ("soft", "stiff"), "randomization": ("none", "mild", "strong")}
_CAMERAS = ("front", "wrist")


@dataclass
class So101Config(EnvConfig, choice="so101"):
    """Settings of the SO-101 tasks."""

    task: str = setting("lift", "What to do; either lifts one of two identical cubes.", among=_CHOICES["task"])
    servo: str = setting(
        "soft", "soft lags and sags as the real servo does, stiff tracks almost exactly.", among=_CHOICES["servo"]
    )
    cameras: list[str] = setting([], "Any of front and wrist; empty leaves pixels out of the observation.")
    image_width: int = setting(96, "Width of a picture, in pixels.", least=16, most=MAX_SIDE)
    image_height: int = setting(96, "Height of a picture, in pixels.", least=16, most=MAX_SIDE)
    randomization: str = setting(
        "none",
        "none, mild or strong changes of mass, friction, servos, latency, light and cameras from episode to episode. "
        "Object places are random at every level.",
        among=_CHOICES["randomization"],
    )
    max_episode_steps: int = setting(
        0, "Steps of 1/30 s before truncation, 0 for the task's own default.", least=0, most=MAX_COUNT
    )
    expert_noise_deg: float = setting(
        0.5,
        "Standard deviation of the smooth disturbance in the scripted expert's actions, in degrees.",
        least=0,
        most=10,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        unknown = any(camera not in _CAMERAS for camera in self.cameras)
        if unknown or len(set(self.cameras)) < len(self.cameras):
            raise ConfigError("cameras", list(self.cameras), "each of front, wrist at most once")

    @classmethod
    @override
    def presets(cls) -> dict[str, dict[str, Any]]:
        return {f"{cls.choice}_{task}": {"task": task} for task in TASKS}

    @override
    def build(self) -> gym.Env:
        return make(render_mode="rgb_array", **self.options())

    @override
    def expert(self) -> Expert:
        from anyorder.envs.so101.expert import So101Expert

        return So101Expert(self.task, self.expert_noise_deg)


def make(render_mode: str | None = None, **options: Any) -> gym.Env:
    """Make an environment from the fields of ``So101Config``; Gymnasium's entry point."""
    from anyorder.envs.so101.env import So101Env

    return So101Env(So101Config(**options), render_mode)


for _task in TASKS:
    gym.register(f"anyorder/So101{camel(_task)}-v0", entry_point="anyorder.envs.so101:make", kwargs={"task": _task})
