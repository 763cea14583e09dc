"""What a task of the SO-101 is: what lies on the table and where, when the job is done, how the expert does it."""

import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from anyorder.envs.so101.moves import Script
from anyorder.envs.so101.scene import PAN_AXIS_X_M, Cube, Scene, polar

RED = (0.86, 0.16, 0.16, 1.0)
BLUE = (0.16, 0.36, 0.80, 1.0)


@dataclass(frozen=True)
class Spawn:
    """Where things may lie: a ring sector about the pan axis, yaw measured from the line to the pan axis.

    The yaw stays short of 45 degrees, where two faces of a cube would be equally good to grasp. The distance of
    two things lies in ``gap_m``, whose default leaves room for the open gripper.
    """

    radius_m: tuple[float, float] = (0.15, 0.245)
    azimuth_rad: float = 0.7
    yaw_rad: float = 0.6
    gap_m: tuple[float, float] = (0.09, 1.0)

    def sample(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Return x and y in metres and yaw in radians."""
        radius_m = rng.uniform(*self.radius_m)
        azimuth_rad = rng.uniform(-self.azimuth_rad, self.azimuth_rad)
        yaw_rad = azimuth_rad + rng.uniform(-self.yaw_rad, self.yaw_rad)
        return PAN_AXIS_X_M + radius_m * math.cos(azimuth_rad), radius_m * math.sin(azimuth_rad), yaw_rad

    def places(self, count: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
        """Return ``count`` places as ``sample`` draws them, drawn again until all are ``gap_m`` apart."""
        while True:
            places = [self.sample(rng) for _ in range(count)]
            gaps_m = [math.dist(one[:2], two[:2]) for one, two in itertools.combinations(places, 2)]
            if all(self.gap_m[0] <= gap_m <= self.gap_m[1] for gap_m in gaps_m):
                return places


class Task(ABC):
    """One job for the arm and how its expert does it; stateless: a scene and a generator decide everything.

    A task is one file in ``anyorder.envs.so101.tasks``. The name of the file is the name of the task, and the class
    in it has that name in CamelCase: ``pick_place.py`` holds ``PickPlace``.

    Attributes:
        description: one English sentence that says what to do.
        cubes: what lies on the table.
        has_goal: whether there is a green mark, too.
        max_episode_steps: steps of 1/30 s before an episode is cut off.
        spawn: where things may lie.
    """

    description: ClassVar[str]
    cubes: ClassVar[tuple[Cube, ...]] = (Cube("cube", RED),)
    has_goal: ClassVar[bool] = False
    max_episode_steps: ClassVar[int] = 150
    spawn: ClassVar[Spawn] = Spawn()

    @abstractmethod
    def is_done(self, scene: Scene) -> bool:
        """Whether the job is done at this instant; the environment asks for several steps of it in a row."""

    @abstractmethod
    def script(self, scene: Scene, rng: np.random.Generator) -> Script:
        """Yield what the expert does, stretch by stretch; before each one it looks at the scene again."""

    def arrange(self, scene: Scene, rng: np.random.Generator) -> None:
        """Lay the cubes and the mark, if there is one, out for a new episode."""
        places = self.spawn.places(len(self.cubes) + self.has_goal, rng)
        for index in range(len(self.cubes)):
            scene.place_cube(index, *places[index])
        if self.has_goal:
            scene.place_goal(*places[-1][:2])

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
