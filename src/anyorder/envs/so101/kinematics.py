"""Inverse kinematics and servo feed-forward of the arm, on a scratch copy of the simulator's data."""

import math

import mujoco
import numpy as np

from anyorder.envs.so101.servo import Servo
from anyorder.envs.so101.units import HIGH_RAD, LOW_RAD

_DAMPING = 0.01
_ROTATION_WEIGHT_M = 0.1  # one radian of tilt counts as much as this many metres
_MAX_STEP_RAD = 0.4


class Kinematics:
    """Answers for the five joints that move the gripper; the gripper itself stays out."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._tcp = model.site("tcp").id
        self._jacobian = np.zeros((6, model.nv))
        self._force = np.zeros(model.nv)

    def tool(self, joints_rad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the tool center point (3,) in metres and its rotation (3, 3) at ``joints_rad`` (>= 5,)."""
        self._data.qpos[:5] = joints_rad[:5]
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._tcp], self._data.site_xmat[self._tcp].reshape(3, 3)

    def solve(self, position_m: np.ndarray, yaw_rad: float, start_rad: np.ndarray) -> np.ndarray:
        """Return the joints (5,) for a tool at ``position_m``, pointing down, jaws closing along ``yaw_rad``.

        Damped least squares from ``start_rad`` (5,); where the pose is out of reach, a compromise.
        """
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        goal = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        joints_rad = start_rad.copy()
        weight = np.array([1.0] * 3 + [_ROTATION_WEIGHT_M] * 3)
        for _ in range(60):
            position, rotation = self.tool(joints_rad)
            turn = 0.5 * np.cross(rotation.T, goal.T).sum(0)
            error = np.concatenate([position_m - position, turn]) * weight
            if np.abs(error).max() < 1e-5:
                break
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tcp)
            jacobian = self._jacobian[:, :5] * weight[:, None]
            step_rad = np.linalg.solve(jacobian.T @ jacobian + _DAMPING**2 * np.eye(5), jacobian.T @ error)
            joints_rad += step_rad * min(1.0, _MAX_STEP_RAD / np.abs(step_rad).max())
            np.clip(joints_rad, LOW_RAD[:5], HIGH_RAD[:5], out=joints_rad)
        return joints_rad

    def feed_forward(self, joints_rad: np.ndarray, velocity_rad_s: np.ndarray, servo: Servo) -> np.ndarray:
        """Return what to add to targets (steps, 5) so that the servo neither sags nor trails."""
        damping = servo.kv_nms_per_rad + servo.joint_damping_nms_per_rad
        torque_nm = damping * velocity_rad_s
        for row, joints in zip(torque_nm, joints_rad, strict=True):
            self.tool(joints)
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_rne(self._model, self._data, 0, self._force)
            row += self._force[:5]
        return torque_nm / servo.kp_nm_per_rad
