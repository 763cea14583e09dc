"""The five tasks: what lies on the table, where it may lie, and when the job is done."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyorder.envs.so101.scene import GOAL_RADIUS_M, PAN_AXIS_X_M, Cube, Scene, polar

_RED = (0.86, 0.16, 0.16, 1.0)
_BLUE = (0.16, 0.36, 0.80, 1.0)


@dataclass(frozen=True)
class Spawn:
    """Where things may lie: a ring sector about the pan axis, yaw measured from the line to the pan axis.

    The yaw stays short of 45 degrees, where two faces of a cube would be equally good to grasp.
    """

    radius_m: tuple[float, float] = (0.15, 0.245)
    azimuth_rad: float = 0.7
    yaw_rad: float = 0.6

    def sample(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Return x and y in metres and yaw in radians."""
        radius_m = rng.uniform(*self.radius_m)
        azimuth_rad = rng.uniform(-self.azimuth_rad, self.azimuth_rad)
        yaw_rad = azimuth_rad + rng.uniform(-self.yaw_rad, self.yaw_rad)
        return PAN_AXIS_X_M + radius_m * math.cos(azimuth_rad), radius_m * math.sin(azimuth_rad), yaw_rad


class Task(ABC):
    """One job for the arm; stateless, so that a scene and a generator decide everything."""

    description: ClassVar[str]
    cubes: ClassVar[tuple[Cube, ...]] = (Cube("cube", _RED),)
    has_goal: ClassVar[bool] = False
    max_episode_steps: ClassVar[int] = 150
    spawn: ClassVar[Spawn] = Spawn()

    @abstractmethod
    def is_done(self, scene: Scene) -> bool:
        """Whether the job is done at this instant; the environment asks for several steps of it in a row."""

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay the objects out for a new episode."""
        x_m, y_m, yaw_rad = self.spawn.sample(rng)
        scene.place_cube(0, x_m, y_m, yaw_rad)

    def environment_names(self) -> list[str]:
        """Return one name per dimension of ``environment_state``."""
        features = ("distance", "azimuth", "z", "sin_4turn", "cos_4turn")
        names = [f"{cube.name}.{feature}" for cube in self.cubes for feature in features]
        return [*names, "goal.distance", "goal.azimuth"] if self.has_goal else names

    def environment_state(self, scene: Scene) -> list[float]:
        """Return object poses and the goal, seen from the pan axis: metres and radians."""
        state = scene.cube_features(0)
        for index in range(1, len(self.cubes)):
            state += scene.cube_features(index)
        return [*state, *polar(*scene.goal_m())] if self.has_goal else state


def _two_apart(
    spawn: Spawn, rng: np.random.Generator, gap_m: tuple[float, float]
) -> list[tuple[float, float, float]]:
    """Draw two places whose distance lies in ``gap_m``."""
    while True:
        first, second = spawn.sample(rng), spawn.sample(rng)
        if gap_m[0] <= math.dist(first[:2], second[:2]) <= gap_m[1]:
            return [first, second]


LIFTED_M = 0.05


class Lift(Task):
    """Raise a cube."""

    description = "Pick up the red cube and lift it five centimetres off the table."

    def is_done(self, scene: Scene) -> bool:
        """Whether the cube's centre is high enough."""
        return scene.cube_m(0)[2] > LIFTED_M + self.cubes[0].half_size_m


class Either(Task):
    """Raise any one of two identical cubes: two equally good answers to the same observation."""

    description = "Pick up either of the two red cubes and lift it five centimetres off the table."
    cubes = (Cube("cube_0", _RED), Cube("cube_1", _RED))

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay both cubes out, far enough apart for the open gripper."""
        for index, place in enumerate(_two_apart(self.spawn, rng, (0.09, 1.0))):
            scene.place_cube(index, *place)

    def is_done(self, scene: Scene) -> bool:
        """Whether one cube's centre is high enough."""
        return any(scene.cube_m(i)[2] > LIFTED_M + self.cubes[i].half_size_m for i in (0, 1))


class Push(Task):
    """Slide a cube along the table onto a mark."""

    description = "Push the red cube onto the green spot without lifting it."
    has_goal = True
    spawn = Spawn(radius_m=(0.16, 0.225), azimuth_rad=0.6)

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay out a cube and a mark within a short straight push."""
        (x_m, y_m, _), (goal_x_m, goal_y_m, _) = _two_apart(self.spawn, rng, (0.07, 0.13))
        ahead_rad = math.atan2(goal_y_m - y_m, goal_x_m - x_m)
        scene.place_cube(0, x_m, y_m, ahead_rad + rng.uniform(-0.35, 0.35))
        scene.place_goal(goal_x_m, goal_y_m)

    def is_done(self, scene: Scene) -> bool:
        """Whether the cube's centre is over the mark and the cube on the table."""
        x_m, y_m, z_m = scene.cube_m(0)
        return (
            math.dist((x_m, y_m), scene.goal_m()) < GOAL_RADIUS_M and z_m < self.cubes[0].half_size_m + 0.004
        )


class PickPlace(Task):
    """Carry a cube to a mark and let go."""

    description = "Pick up the red cube, put it on the green spot and let go."
    has_goal = True
    max_episode_steps = 200

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay out a cube and a mark some way off."""
        cube, goal = _two_apart(self.spawn, rng, (0.08, 1.0))
        scene.place_cube(0, *cube)
        scene.place_goal(*goal[:2])

    def is_done(self, scene: Scene) -> bool:
        """Whether the cube rests over the mark, untouched."""
        x_m, y_m, z_m = scene.cube_m(0)
        return (
            z_m < self.cubes[0].half_size_m + 0.003
            and math.dist((x_m, y_m), scene.goal_m()) < GOAL_RADIUS_M
            and scene.cube_speed_m_s(0) < 0.01
            and not scene.is_touched(0)
        )


class Stack(Task):
    """Put one cube on another and let go."""

    description = "Stack the red cube on the larger blue cube and let go."
    cubes = (Cube("red", _RED), Cube("blue", _BLUE, half_size_m=0.016, mass_kg=0.040))
    max_episode_steps = 200

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay both cubes out, far enough apart for the open gripper."""
        for index, place in enumerate(_two_apart(self.spawn, rng, (0.09, 1.0))):
            scene.place_cube(index, *place)

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


TASKS: dict[str, type[Task]] = {
    "lift": Lift,
    "push": Push,
    "pick_place": PickPlace,
    "stack": Stack,
    "either": Either,
}
