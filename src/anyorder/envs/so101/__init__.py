"""Table-top tasks for a simulated SO-101 arm, with scripted experts.

Importing this module is cheap: MuJoCo is loaded by ``build()``.
"""

from dataclasses import dataclass
from typing import Any, override

import gymnasium as gym

from anyorder.envs.base import Expert
from anyorder.envs.simulator import SimulatorConfig, cameras_among
from anyorder.envs.so101.tasks import TASKS, camel
from anyorder.errors import MAX_COUNT
from anyorder.settings import setting


@dataclass
class So101Config(SimulatorConfig, choice="so101"):
    """Settings of the SO-101 tasks."""

    task: str = setting("lift", "What to do; either lifts one of two identical cubes.", among=TASKS)
    servo: str = setting(
        "soft", "soft lags and sags as the real servo does, stiff tracks almost exactly.", among=("soft", "stiff")
    )
    cameras: list[str] = cameras_among("front", "wrist")
    randomization: str = setting(
        "none",
        "none, mild or strong changes of mass, friction, servos, latency, light and cameras from episode to episode. "
        "Object places are random at every level.",
        among=("none", "mild", "strong"),
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

    tasks = TASKS

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
