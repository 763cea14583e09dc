"""Moves that the experts' scripts are made of, as stretches of waypoints."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from anyorder.envs.so101.scene import Scene, polar
from anyorder.envs.so101.trajectory import Waypoint

Script = Iterator[list[Waypoint]]
"""What an expert does: stretches of waypoints; between two of them it looks at the scene again."""

OPEN, CLOSED = 35.0, 4.0  # percent; a 25 mm cube stops the jaws at about 15
_EMPTY_RAD = -0.03  # jaws that close further have missed the cube
GRASP_ABOVE_CENTER_M = 0.003  # keeps the finger tips off the table
_APPROACH_M = 0.065


def lift_cube(scene: Scene, index: int) -> Script:
    """Grasp a cube and raise it, again and again until it is up."""
    while True:
        yield from grasp(scene, index)
        x_m, y_m, _ = scene.cube_m(index)
        yaw_rad = grasp_yaw_rad(scene, index)
        yield [Waypoint((x_m, y_m, 0.05), yaw_rad, CLOSED, 0.3), Waypoint((x_m, y_m, 0.09), yaw_rad, CLOSED, 0.3)]


def carry_cube(scene: Scene, index: int, target_m: Callable[[], tuple[float, float, float]]) -> Script:
    """Grasp a cube, bring its center to where ``target_m`` then says and let go, again where it fell."""
    while True:
        yield from grasp(scene, index)
        yield deliver(scene, index, target_m())


def grasp(scene: Scene, index: int) -> Script:
    """Reach for a cube until it is between the jaws."""
    while True:
        yield reach(scene, index)
        if scene.gripper_rad() > _EMPTY_RAD:
            return
        tool_m, rotation = scene.tool()
        up_m = (tool_m[0], tool_m[1], tool_m[2] + _APPROACH_M)
        yield [Waypoint(up_m, math.atan2(rotation[1, 0], rotation[0, 0]), OPEN, 0.4)]


def reach(scene: Scene, index: int) -> list[Waypoint]:
    """Come down on a cube from above and close the jaws."""
    x_m, y_m, z_m = scene.cube_m(index)
    yaw_rad = grasp_yaw_rad(scene, index)
    low_m = z_m + GRASP_ABOVE_CENTER_M
    return [
        Waypoint((x_m, y_m, low_m + _APPROACH_M), yaw_rad, OPEN, 0.8),
        Waypoint((x_m, y_m, low_m + 0.02), yaw_rad, OPEN, 0.25),
        Waypoint((x_m, y_m, low_m), yaw_rad, OPEN, 0.15),
        Waypoint((x_m, y_m, low_m), yaw_rad, CLOSED, 0.3),
    ]


def deliver(scene: Scene, index: int, target_m: tuple[float, float, float]) -> list[Waypoint]:
    """Carry a grasped cube so that its center comes to ``target_m``, open the jaws, rise."""
    tool_m, tool_rotation = scene.tool()
    cube_in_tool_m = tool_rotation.T @ (scene.cube_m(index) - tool_m)
    from_yaw_rad = math.atan2(tool_rotation[1, 0], tool_rotation[0, 0])
    # The wrist keeps its roll, so the cube turns with the shoulder.
    yaw_rad = from_yaw_rad + polar(target_m[0], target_m[1])[1] - polar(tool_m[0], tool_m[1])[1]
    closing = np.array([math.cos(yaw_rad), math.sin(yaw_rad), 0.0])
    across = np.array([-closing[1], closing[0], 0.0])
    over_m = np.array(target_m) - cube_in_tool_m[0] * closing - cube_in_tool_m[1] * across
    low_m = target_m[2] - cube_in_tool_m[2] + 0.001
    apart_m = over_m - 0.005 * closing  # the jaw that does not move must leave the cube, too
    return [
        Waypoint((tool_m[0], tool_m[1], 0.05), from_yaw_rad, CLOSED, 0.3),
        Waypoint((over_m[0], over_m[1], low_m + 0.05), yaw_rad, CLOSED, 0.7),
        Waypoint((over_m[0], over_m[1], low_m), yaw_rad, CLOSED, 0.4),
        Waypoint((apart_m[0], apart_m[1], low_m), yaw_rad, OPEN, 0.3),
        Waypoint((apart_m[0], apart_m[1], low_m + 0.02), yaw_rad, OPEN, 0.2),
        Waypoint((apart_m[0], apart_m[1], low_m + 0.06), yaw_rad, OPEN, 0.25),
    ]


def least_turn_rad(place_m: Sequence[float] | np.ndarray, face_rad: float) -> float:
    """Return the heading that rolls the wrist least, out of ``face_rad`` and its quarter turns."""
    azimuth_rad = polar(place_m[0], place_m[1])[1]
    return azimuth_rad + math.remainder(face_rad - azimuth_rad, math.pi / 2)


def grasp_yaw_rad(scene: Scene, index: int) -> float:
    """Return the heading of the jaws that grasp a cube with the least roll of the wrist."""
    return least_turn_rad(scene.cube_m(index), scene.cube_yaw_rad(index))
