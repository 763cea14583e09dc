"""Carry a cube to a mark and let go."""

from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, carry_cube
from anyorder.envs.so101.scene import Scene
from anyorder.envs.so101.task import Spawn, Task


class PickPlace(Task):
    """Carry a cube to a mark and let go."""

    description = "Pick up the red cube, put it on the green spot and let go."
    has_goal = True
    max_episode_steps = 200
    spawn = Spawn(gap_m=(0.08, 1.0))

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the cube rests over the mark, untouched."""
        return scene.is_on_goal(0, 0.003) and scene.is_released(0)

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Carry the cube to the goal and let go, again where it fell."""
        yield from carry_cube(scene, 0, lambda: (*scene.goal_m(), scene.cubes[0].half_size_m))
