"""What each task's expert does: stretches of waypoints; between two stretches it looks at the scene again."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from anyorder.envs.so101.scene import Scene, polar
from anyorder.envs.so101.trajectory import Waypoint

Script = Iterator[list[Waypoint]]

_OPEN, _CLOSED = 35.0, 4.0  # percent; a 25 mm cube stops the jaws at about 15
_EMPTY_RAD = -0.03  # jaws that close further have missed the cube
_GRASP_ABOVE_CENTRE_M = 0.003  # keeps the finger tips off the table
_APPROACH_M = 0.065

# The closed jaws seen from above: a block of this half width, whose centre lies this far from the tool centre
# point along the closing direction.
_BLOCK_HALF_M = 0.0098
_BLOCK_OFFSET_M = -0.0177


def lift(scene: Scene, rng: np.random.Generator) -> Script:
    """Grasp the cube and raise it, again and again until it is up."""
    yield from _lift(scene, 0)


def either(scene: Scene, rng: np.random.Generator) -> Script:
    """Lift the cube that a coin chooses."""
    yield from _lift(scene, int(rng.integers(2)))


def push(scene: Scene, rng: np.random.Generator) -> Script:
    """Come down behind the cube with closed jaws and slide it to the goal, again where it went astray."""
    while True:
        cube, goal = np.array(scene.cube_m(0)[:2]), np.array(scene.goal_m())
        ahead = (goal - cube) / np.linalg.norm(goal - cube)
        half_m = scene.cubes[0].half_size_m
        yaw_rad = _least_turn_rad(cube, math.atan2(ahead[1], ahead[0]))
        block = _BLOCK_OFFSET_M * np.array([math.cos(yaw_rad), math.sin(yaw_rad)])
        behind = cube - ahead * (1.4 * half_m + _BLOCK_HALF_M + 0.01) - block
        there = goal - ahead * (half_m + _BLOCK_HALF_M) - block
        low_m = half_m + _GRASP_ABOVE_CENTRE_M
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


def pick_place(scene: Scene, rng: np.random.Generator) -> Script:
    """Carry the cube to the goal and let go, again where it fell."""
    while True:
        yield from _grasp(scene, 0)
        yield _deliver(scene, 0, (*scene.goal_m(), scene.cubes[0].half_size_m))


def stack(scene: Scene, rng: np.random.Generator) -> Script:
    """Carry the red cube onto the blue one and let go, again where it fell."""
    while True:
        yield from _grasp(scene, 0)
        x_m, y_m, z_m = scene.cube_m(1)
        rise_m = scene.cubes[0].half_size_m + scene.cubes[1].half_size_m
        yield _deliver(scene, 0, (x_m, y_m, z_m + rise_m))


def _lift(scene: Scene, index: int) -> Script:
    while True:
        yield from _grasp(scene, index)
        x_m, y_m, _ = scene.cube_m(index)
        yaw_rad = _grasp_yaw_rad(scene, index)
        yield [
            Waypoint((x_m, y_m, 0.05), yaw_rad, _CLOSED, 0.3),
            Waypoint((x_m, y_m, 0.09), yaw_rad, _CLOSED, 0.3),
        ]


def _grasp(scene: Scene, index: int) -> Script:
    """Reach for a cube until it is between the jaws."""
    while True:
        yield _reach(scene, index)
        if scene.gripper_rad() > _EMPTY_RAD:
            return
        tool_m, rotation = scene.tool()
        up_m = (tool_m[0], tool_m[1], tool_m[2] + _APPROACH_M)
        yield [Waypoint(up_m, math.atan2(rotation[1, 0], rotation[0, 0]), _OPEN, 0.4)]


def _reach(scene: Scene, index: int) -> list[Waypoint]:
    """Come down on a cube from above and close the jaws."""
    x_m, y_m, z_m = scene.cube_m(index)
    yaw_rad = _grasp_yaw_rad(scene, index)
    low_m = z_m + _GRASP_ABOVE_CENTRE_M
    return [
        Waypoint((x_m, y_m, low_m + _APPROACH_M), yaw_rad, _OPEN, 0.8),
        Waypoint((x_m, y_m, low_m + 0.02), yaw_rad, _OPEN, 0.25),
        Waypoint((x_m, y_m, low_m), yaw_rad, _OPEN, 0.15),
        Waypoint((x_m, y_m, low_m), yaw_rad, _CLOSED, 0.3),
    ]


def _deliver(scene: Scene, index: int, target_m: tuple[float, float, float]) -> list[Waypoint]:
    """Carry a grasped cube so that its centre comes to ``target_m``, open the jaws, rise."""
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
        Waypoint((tool_m[0], tool_m[1], 0.05), from_yaw_rad, _CLOSED, 0.3),
        Waypoint((over_m[0], over_m[1], low_m + 0.05), yaw_rad, _CLOSED, 0.7),
        Waypoint((over_m[0], over_m[1], low_m), yaw_rad, _CLOSED, 0.4),
        Waypoint((apart_m[0], apart_m[1], low_m), yaw_rad, _OPEN, 0.3),
        Waypoint((apart_m[0], apart_m[1], low_m + 0.02), yaw_rad, _OPEN, 0.2),
        Waypoint((apart_m[0], apart_m[1], low_m + 0.06), yaw_rad, _OPEN, 0.25),
    ]


def _least_turn_rad(place_m: Sequence[float] | np.ndarray, face_rad: float) -> float:
    """Return the heading that rolls the wrist least, out of ``face_rad`` and its quarter turns."""
    azimuth_rad = polar(place_m[0], place_m[1])[1]
    return azimuth_rad + math.remainder(face_rad - azimuth_rad, math.pi / 2)


def _grasp_yaw_rad(scene: Scene, index: int) -> float:
    return _least_turn_rad(scene.cube_m(index), scene.cube_yaw_rad(index))


SCRIPTS: dict[str, Callable[[Scene, np.random.Generator], Script]] = {
    "lift": lift,
    "push": push,
    "pick_place": pick_place,
    "stack": stack,
    "either": either,
}
