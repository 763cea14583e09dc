"""Carry a cube to a mark and let go."""

import math
from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, deliver, grasp
from anyorder.envs.so101.scene import GOAL_RADIUS_M, Scene
from anyorder.envs.so101.task import Task, two_apart


class PickPlace(Task):
    """Carry a cube to a mark and let go."""

    description = "Pick up the red cube, put it on the green spot and let go."
    has_goal = True
    max_episode_steps = 200

    @override
    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay out a cube and a mark some way off."""
        cube, goal = two_apart(self.spawn, rng, (0.08, 1.0))
        scene.place_cube(0, *cube)
        scene.place_goal(*goal[:2])

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the cube rests over the mark, untouched."""
        x_m, y_m, z_m = scene.cube_m(0)
        return (
            z_m < self.cubes[0].half_size_m + 0.003
            and math.dist((x_m, y_m), scene.goal_m()) < GOAL_RADIUS_M
            and scene.cube_speed_m_s(0) < 0.01
            and not scene.is_touched(0)
        )

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Carry the cube to the goal and let go, again where it fell."""
        while True:
            yield from grasp(scene, 0)
            yield deliver(scene, 0, (*scene.goal_m(), scene.cubes[0].half_size_m))
