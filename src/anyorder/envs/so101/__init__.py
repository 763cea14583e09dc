"""Table-top tasks for a simulated SO-101 arm, with scripted experts.

Importing this module is cheap: MuJoCo is loaded by ``build()``.
"""

from dataclasses import dataclass, field
from typing import Any, override

import gymnasium as gym

from anyorder.envs.base import EnvConfig, Expert
from anyorder.envs.so101.tasks import TASKS, camel
from anyorder.errors import MAX_COUNT, MAX_SIDE, ConfigError, check_number

_CHOICES = {
    "task": TASKS,
    "servo": ("soft", "stiff"),
    "randomization": ("none", "mild", "strong"),
}
_CAMERAS = ("front", "wrist")


@dataclass
class So101Config(EnvConfig, choice="so101"):
    """Settings of the SO-101 tasks.

    Attributes:
        task: ``lift``, ``push``, ``pick_place``, ``stack`` or ``either`` (lift one of two identical cubes).
        servo: ``soft`` lags and sags as the real servo does, ``stiff`` tracks almost exactly.
        cameras: any of ``front`` and ``wrist``; empty leaves ``pixels`` out of the observation.
        image_width: pixels.
        image_height: pixels.
        randomization: ``none``, ``mild`` or ``strong`` changes of mass, friction, servos, latency, light and
            cameras from episode to episode. Object places are random at every level.
        max_episode_steps: steps of 1/30 s before truncation, 0 for the task's own default.
        expert_noise_deg: standard deviation of the smooth disturbance in the scripted expert's actions.
    """

    task: str = "lift"
    servo: str = "soft"
    cameras: list[str] = field(default_factory=list)
    image_width: int = 96
    image_height: int = 96
    randomization: str = "none"
    max_episode_steps: int = 0
    expert_noise_deg: float = 0.5

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"env.{name}", getattr(self, name), ", ".join(allowed))
        if any(camera not in _CAMERAS for camera in self.cameras) or len(set(self.cameras)) < len(
            self.cameras
        ):
            raise ConfigError("env.cameras", list(self.cameras), "each of front, wrist at most once")
        for name, least in (("image_width", 16), ("image_height", 16), ("max_episode_steps", 0)):
            most = MAX_SIDE if name.startswith("image") else MAX_COUNT
            check_number(f"env.{name}", getattr(self, name), least, most, whole=True)
        if not 0.0 <= self.expert_noise_deg <= 10.0:
            raise ConfigError("env.expert_noise_deg", self.expert_noise_deg, "a number from 0 to 10")

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
    gym.register(
        f"anyorder/So101{camel(_task)}-v0", entry_point="anyorder.envs.so101:make", kwargs={"task": _task}
    )
