"""Raise any one of two identical cubes."""

from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, lift_cube
from anyorder.envs.so101.scene import Cube, Scene
from anyorder.envs.so101.task import RED, Task


class Either(Task):
    """Raise any one of two identical cubes: two equally good answers to the same observation."""

    description = "Pick up either of the two red cubes and lift it five centimetres off the table."
    cubes = (Cube("cube_0", RED), Cube("cube_1", RED))

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether one cube's center is high enough."""
        return scene.is_up(0) or scene.is_up(1)

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Lift the cube that a coin chooses."""
        yield from lift_cube(scene, int(rng.integers(2)))
