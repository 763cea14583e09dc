"""Put one cube on another and let go."""

import math
from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, carry_cube
from anyorder.envs.so101.scene import Cube, Scene
from anyorder.envs.so101.task import BLUE, RED, Task


class Stack(Task):
    """Put one cube on another and let go."""

    description = "Stack the red cube on the larger blue cube and let go."
    cubes = (Cube("red", RED), Cube("blue", BLUE, half_size_m=0.016, mass_kg=0.040))
    max_episode_steps = 200

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the red cube rests on the blue one, untouched."""
        x_m, y_m, z_m = scene.cube_m(0)
        *over_m, top_m = self._on_top_m(scene)
        placed = abs(z_m - top_m) < 0.003 and math.dist((x_m, y_m), over_m) < self.cubes[1].half_size_m
        return placed and scene.is_released(0)

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Carry the red cube onto the blue one and let go, again where it fell."""
        yield from carry_cube(scene, 0, lambda: self._on_top_m(scene))

    def _on_top_m(self, scene: Scene) -> tuple[float, float, float]:
        """Return where the center of a red cube is that lies on the blue one."""
        x_m, y_m, z_m = scene.cube_m(1)
        return x_m, y_m, z_m + (self.cubes[0].half_size_m + self.cubes[1].half_size_m)
