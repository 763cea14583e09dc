"""Raise a cube."""

from typing import override

import numpy as np

from anyorder.envs.so101.moves import Script, lift_cube
from anyorder.envs.so101.scene import Scene
from anyorder.envs.so101.task import Task


class Lift(Task):
    """Raise a cube."""

    description = "Pick up the red cube and lift it five centimetres off the table."

    @override
    def is_done(self, scene: Scene) -> bool:
        """Whether the cube's center is high enough."""
        return scene.is_up(0)

    @override
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Grasp the cube and raise it, again and again until it is up."""
        yield from lift_cube(scene, 0)
