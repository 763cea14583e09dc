"""Slide a cube along the table onto a mark."""

import math
from typing import override

import numpy as np

from anyorder.envs.so101.moves import GRASP_ABOVE_CENTER_M, Script, least_turn_rad
from anyorder.envs.so101.scene import Scene
from anyorder.envs.so101.task import Spawn, Task
from anyorder.envs.so101.trajectory import Waypoint

# The closed jaws seen from above: a block of this half width, whose center lies this far from the tool center
# point along the closing direction.
_BLOCK_HALF_M = 0.0098
_BLOCK_OFFSET_M = -0.0177


class Push(Task):
    """Slide a cube along the table onto a mark."""

    description = "Push the red cube onto the green spot without lifting it."
    has_goal = True
    spawn = Spawn(radius_m=(0.16, 0.225), azimuth_rad=0.6, gap_m=(0.07, 0.13))

    @override
    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay out a cube and a mark within a short straight push, the cube nearly turned towards it."""
        super().arrange(scene, rng)
        (x_m, y_m, _), (goal_x_m, goal_y_m) = scene.cube_m(0), scene.goal_m()
        ahead_rad = math.atan2(goal_y_m - y_m, goal_x_m - x_m)
        scene.place_cube(0, x_m, y_m, ahead_rad + rng.uniform(-0.35, 0.35))

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the cube's center is over the mark and the cube on the table."""
        return scene.is_on_goal(0, 0.004)

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Come down behind the cube with closed jaws and slide it to the goal, again where it went astray."""
        while True:
            cube, goal = np.array(scene.cube_m(0)[:2]), np.array(scene.goal_m())
            ahead = (goal - cube) / np.linalg.norm(goal - cube)
            half_m = scene.cubes[0].half_size_m
            yaw_rad = least_turn_rad(cube, math.atan2(ahead[1], ahead[0]))
            block = _BLOCK_OFFSET_M * np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
            behind = cube - ahead * (1.4 * half_m + _BLOCK_HALF_M + 0.01) - block
            there = goal - ahead * (half_m + _BLOCK_HALF_M) - block
            low_m = half_m + GRASP_ABOVE_CENTER_M
            push_s = float(np.linalg.norm(there - behind)) / 0.14
            yield [
                Waypoint((behind[0], behind[1], low_m + 0.05), yaw_rad, 0.0, 0.7),
                Waypoint((behind[0], behind[1], low_m), yaw_rad, 0.0, 0.4),
                *(
                    Waypoint((*(behind + (there - behind) * part), low_m), yaw_rad, 0.0, push_s / 4)
                    for part in (0.25, 0.5, 0.75, 1.0)
                ),
            ]
            yield [Waypoint((there[0], there[1], low_m + 0.05), yaw_rad, 0.0, 0.4)]
