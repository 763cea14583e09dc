"""What each task's expert does: generators of stretches of waypoints, which look at the scene between stretches."""

import math
from collections.abc import Callable, Iterator

import numpy as np

from anyorder.envs.so101.scene import PAN_AXIS_X_M, Scene
from anyorder.envs.so101.trajectory import Waypoint

Script = Iterator[list[Waypoint]]

OPEN, CLOSED = 35.0, 4.0  # percent; a 25 mm cube stops the jaws at about 15

_GRASP_ABOVE_CENTRE_M = 0.003  # keeps the finger tips off the table
_APPROACH_M = 0.065


def lift(scene: Scene, rng: np.random.Generator) -> Script:
    """Grasp the cube and raise it, again and again until it is up."""
    yield from _lift(scene, 0)


def either(scene: Scene, rng: np.random.Generator) -> Script:
    """Lift the cube that a coin chooses."""
    yield from _lift(scene, int(rng.integers(2)))


def _lift(scene: Scene, index: int) -> Script:
    while True:
        yield _reach(scene, index)
        x_m, y_m, _ = scene.cube_m(index)
        yaw_rad = _grasp_yaw_rad(scene, index)
        yield [
            Waypoint((x_m, y_m, 0.05), yaw_rad, CLOSED, 0.3),
            Waypoint((x_m, y_m, 0.10), yaw_rad, CLOSED, 0.3),
        ]


def _reach(scene: Scene, index: int) -> list[Waypoint]:
    """Come down on a cube from above and close the jaws."""
    x_m, y_m, z_m = scene.cube_m(index)
    yaw_rad = _grasp_yaw_rad(scene, index)
    low_m = z_m + _GRASP_ABOVE_CENTRE_M
    return [
        Waypoint((x_m, y_m, low_m + _APPROACH_M), yaw_rad, OPEN, 0.8),
        Waypoint((x_m, y_m, low_m + 0.02), yaw_rad, OPEN, 0.25),
        Waypoint((x_m, y_m, low_m), yaw_rad, OPEN, 0.15),
        Waypoint((x_m, y_m, low_m), yaw_rad, CLOSED, 0.3),
    ]


def _grasp_yaw_rad(scene: Scene, index: int) -> float:
    """Return the direction for the jaws to close in: the cube face that turns the wrist least."""
    x_m, y_m, _ = scene.cube_m(index)
    azimuth_rad = math.atan2(y_m, x_m - PAN_AXIS_X_M)
    turn_rad = scene.cube_yaw_rad(index) - azimuth_rad
    return azimuth_rad + math.remainder(turn_rad, math.pi / 2)


SCRIPTS: dict[str, Callable[[Scene, np.random.Generator], Script]] = {
    "lift": lift,
    "either": either,
}
