"""PushT of Diffusion Policy (arXiv 2303.04137): a disc pushes a T-shaped block onto its outline.

Simulation and task come from the package gym-pusht; this environment renders only what is asked for.
"""

import math
import os
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, override

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Expert, Observation, require_simulator
from anyorder.envs.simulator import Array, SimulatorConfig, SimulatorEnv, cameras_among
from anyorder.errors import MAX_COUNT
from anyorder.settings import setting

WORKSPACE = 512.0
"""The side of the square table in pixels, the unit of all lengths."""
GOAL_POSE = (256.0, 256.0, math.pi / 4)
"""A block on its outline has the middle of the bar's outer edge here, px, and this angle, rad."""
BLOCK_KEYPOINTS = (
    (-60.0, 0.0),
    (60.0, 0.0),
    (60.0, 30.0),
    (-60.0, 30.0),
    (-15.0, 30.0),
    (15.0, 30.0),
    (15.0, 120.0),
    (-15.0, 120.0),
)
"""The corners of bar and stem in the block's frame, px, in the order of ``environment_state``."""

_SENTENCE = "Push the T-shaped block onto the T-shaped target."
_RENDER_SIZE = 480
FPS = 10


@dataclass
class PushtConfig(SimulatorConfig, choice="pusht"):
    """Settings of PushT."""

    task: str = setting("pusht", "The only task.", among=("pusht",))
    cameras: list[str] = cameras_among("top")
    max_episode_steps: int = setting(
        300, "Steps of 1/10 s before truncation; 300 is the benchmark's own.", least=1, most=MAX_COUNT
    )
    expert_noise: float = setting(
        0.0, "Standard deviation in pixels of white noise on the expert's targets.", least=0, most=100
    )

    @override
    def build(self) -> gym.Env:
        require_simulator("gym_pusht", "pusht")
        return PushtEnv(self)

    @override
    def expert(self) -> Expert:
        require_simulator("gym_pusht", "pusht")
        from anyorder.envs.pusht.expert import PushtExpert

        return PushtExpert(self.expert_noise)


class PushtEnv(SimulatorEnv):
    """A disc on a table; action = the place it is drawn to, (2,) float32 in px, 0 ... 512, for 1/10 s.

    ``agent_pos`` (2,) is the disc's place, ``environment_state`` (16,) the corners x0, y0, x1, y1, ... of
    the block's bar and stem, all in px with y down. The reward is gym-pusht's, the part of the outline that
    the block covers divided by 0.95, at most 1; more than 0.95 is success and ends the episode.
    """

    fps = FPS
    robot_type = "pusht"
    view = "top"

    def __init__(self, config: PushtConfig) -> None:
        self._sim = _simulation(config)
        super().__init__(
            config,
            description=_SENTENCE,
            max_episode_steps=config.max_episode_steps,
            state_names=["agent.x", "agent.y"],
            environment_names=[f"keypoint{i}.{axis}" for i in range(len(BLOCK_KEYPOINTS)) for axis in "xy"],
            action_names=["target.x", "target.y"],
            action_space=gym.spaces.Box(0.0, WORKSPACE, (2,), np.float32),
        )

    @override
    def _begin(self, seed: int | None) -> None:
        self._values, _ = self._sim.reset(seed=self._drawn(seed))

    @override
    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Draw the disc towards ``action``, clipped to the table, for 1/10 s."""
        target = np.clip(np.asarray(action, dtype=np.float64), 0.0, WORKSPACE)
        self._values, reward, _, _, details = self._sim.step(target)
        return self._outcome(reward, bool(details["is_success"]), coverage=float(details["coverage"]))

    @override
    def _state(self) -> tuple[Any, Any]:
        return self._values["agent_pos"], self._values["environment_state"]

    @override
    def _picture(self, camera: str, size: tuple[int, int]) -> Array:
        return np.asarray(self._sim._render())

    @override
    def render(self) -> Array:
        """Return a (480, 480, 3) uint8 picture; a red cross marks the last action."""
        return np.asarray(self._sim.render())

    @override
    def close(self) -> None:
        """Free the simulator."""
        self._sim.close()


def _simulation(config: PushtConfig) -> Any:
    """Make gym-pusht's environment, observed by keypoints and thus without rendering."""
    return _simulation_class()(
        obs_type="environment_state_agent_pos",
        observation_width=config.image_width,
        observation_height=config.image_height,
        visualization_width=_RENDER_SIZE,
        visualization_height=_RENDER_SIZE,
    )


@cache
def _simulation_class() -> type[Any]:
    """Return gym-pusht's class of environments, with a coverage that two runs agree on to the last bit."""
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # pygame 2.6's own
        from gym_pusht.envs.pusht import PushTEnv, pymunk_to_shapely

    class Simulation(PushTEnv):
        @override
        def _get_coverage(self) -> float:
            """Return which part of the outline the block covers, bar before stem.

            gym-pusht goes over ``block.shapes``, a set in the order of memory addresses, and the last bits follow.
            """
            goal = pymunk_to_shapely(self.get_goal_pose_body(self.goal_pose), self._block_shapes)
            block = pymunk_to_shapely(self.block, self._block_shapes)
            return float(goal.intersection(block).area / goal.area)

    return Simulation
