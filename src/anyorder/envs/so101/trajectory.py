"""Smooth joint-space motion through tool waypoints."""

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from scipy.interpolate import PchipInterpolator

from anyorder.envs.so101.kinematics import Kinematics
from anyorder.envs.so101.servo import Servo
from anyorder.envs.so101.units import HIGH_RAD, LOW_RAD, from_radians, to_radians


@dataclass(frozen=True)
class Waypoint:
    """Where the tool is to be ``duration_s`` after the waypoint before; jaws in LeRobot percent."""

    position_m: tuple[float, float, float]
    yaw_rad: float
    gripper: float
    duration_s: float


class Planner:
    """Turns waypoints into actions, each stretch from where the last one was to end."""

    def __init__(self, model: mujoco.MjModel, servo: Servo, period_s: float, start: np.ndarray) -> None:
        self._kinematics = Kinematics(model)
        self._servo = servo
        self._period_s = period_s
        self._joints_rad = to_radians(start)

    def plan(self, waypoints: Sequence[Waypoint]) -> np.ndarray:
        """Return actions (steps, 6) in LeRobot units, from rest to rest.

        Joints follow a monotone cubic through the waypoints: it flows through those on the way and halts,
        without overshoot, only where a joint turns back.
        """
        knots_rad, times_s = [self._joints_rad], [0.0]
        for waypoint in waypoints:
            arm_rad = self._kinematics.solve(np.array(waypoint.position_m), waypoint.yaw_rad, knots_rad[-1][:5])
            knots_rad.append(np.append(arm_rad, to_radians(np.full(6, waypoint.gripper))[5]))
            times_s.append(times_s[-1] + waypoint.duration_s)
        self._joints_rad = knots_rad[-1]

        # Equal values shortly before and after make the curve start and end at rest.
        curve = PchipInterpolator([-0.01, *times_s, times_s[-1] + 0.01], [knots_rad[0], *knots_rad, knots_rad[-1]])
        steps_s = self._period_s * np.arange(1, round(times_s[-1] / self._period_s) + 1)
        targets_rad = curve(steps_s)
        velocity_rad_s = curve(steps_s, nu=1)
        targets_rad[:, :5] += self._kinematics.feed_forward(targets_rad[:, :5], velocity_rad_s[:, :5], self._servo)
        return from_radians(np.clip(targets_rad, LOW_RAD, HIGH_RAD))
