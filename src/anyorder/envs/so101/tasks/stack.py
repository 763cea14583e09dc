"""Put one cube on another and let go."""

import math
from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, deliver, grasp
from anyorder.envs.so101.scene import Cube, Scene
from anyorder.envs.so101.task import BLUE, RED, Task, two_apart


class Stack(Task):
    """Put one cube on another and let go."""

    description = "Stack the red cube on the larger blue cube and let go."
    cubes = (Cube("red", RED), Cube("blue", BLUE, half_size_m=0.016, mass_kg=0.040))
    max_episode_steps = 200

    @override
    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay both cubes out, far enough apart for the open gripper."""
        for index, place in enumerate(two_apart(self.spawn, rng, (0.09, 1.0))):
            scene.place_cube(index, *place)

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the red cube rests on the blue one, untouched."""
        x_m, y_m, z_m = scene.cube_m(0)
        base_x_m, base_y_m, base_z_m = scene.cube_m(1)
        rise_m = self.cubes[0].half_size_m + self.cubes[1].half_size_m
        return (
            abs(z_m - base_z_m - rise_m) < 0.003
            and math.dist((x_m, y_m), (base_x_m, base_y_m)) < self.cubes[1].half_size_m
            and scene.cube_speed_m_s(0) < 0.01
            and not scene.is_touched(0)
        )

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Carry the red cube onto the blue one and let go, again where it fell."""
        while True:
            yield from grasp(scene, 0)
            x_m, y_m, z_m = scene.cube_m(1)
            rise_m = scene.cubes[0].half_size_m + scene.cubes[1].half_size_m
            yield deliver(scene, 0, (x_m, y_m, z_m + rise_m))
