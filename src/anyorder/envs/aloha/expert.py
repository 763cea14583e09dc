"""The scripted expert of the ALOHA tasks: grippers follow waypoints, joints replay what that took.

The method and the numbers in the tables of waypoints are those of ACT's scripted policies
(https://github.com/tonyzhaozh/act, MIT, arXiv 2304.13705).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.aloha.env import ARM_JOINTS, FULL_QPOS
from anyorder.envs.base import Observation

if TYPE_CHECKING:
    import mujoco

Array = npt.NDArray[np.float64]

PLAN_STEPS = 400
_SUBSTEPS = 10
_WELD_STIFFNESS = 0.9
"""The welds that pull the grippers along are this stiff. As shipped (0.25), friction in the joints leaves them up to 40
degrees behind and nearly every plan fails; with 0.9 nearly every one succeeds."""


def _quaternion(axis: int, degrees: float) -> tuple[float, ...]:
    """Return the rotation about a coordinate axis as (w, x, y, z)."""
    quaternion = [math.cos(math.radians(degrees) / 2), 0.0, 0.0, 0.0]
    quaternion[1 + axis] = math.sin(math.radians(degrees) / 2)
    return tuple(quaternion)


_STRAIGHT = (1.0, 0.0, 0.0, 0.0)
_DOWN_RIGHT = _quaternion(1, -60)  # the right gripper tilted towards the table
_DOWN_LEFT = _quaternion(1, 60)
_ROLLED = _quaternion(0, 90)  # fingers above and below the cube that the other arm holds


@dataclass(frozen=True)
class Waypoint:
    """Where a gripper is to be at ``step``: ``offset`` in m from its anchor, turned, open (1) or closed."""

    step: int
    anchor: str
    offset: tuple[float, float, float]
    rotation: tuple[float, ...]
    opening: float


@dataclass(frozen=True)
class Script:
    """Both arms' waypoints and the place in m where they meet."""

    meet: tuple[float, float, float]
    left: tuple[Waypoint, ...]
    right: tuple[Waypoint, ...]


_START = Waypoint(0, "start", (0.0, 0.0, 0.0), _STRAIGHT, 0.0)

_TRANSFER = Script(
    meet=(0.0, 0.5, 0.25),
    left=(
        _START,
        Waypoint(100, "meet", (-0.1, 0.0, -0.02), _ROLLED, 1.0),
        Waypoint(260, "meet", (0.02, 0.0, -0.02), _ROLLED, 1.0),
        Waypoint(310, "meet", (0.02, 0.0, -0.02), _ROLLED, 0.0),
        Waypoint(360, "meet", (-0.1, 0.0, -0.02), _STRAIGHT, 0.0),
        Waypoint(400, "meet", (-0.1, 0.0, -0.02), _STRAIGHT, 0.0),
    ),
    right=(
        _START,
        Waypoint(90, "cube", (0.0, 0.0, 0.08), _DOWN_RIGHT, 1.0),
        Waypoint(130, "cube", (0.0, 0.0, -0.015), _DOWN_RIGHT, 1.0),
        Waypoint(170, "cube", (0.0, 0.0, -0.015), _DOWN_RIGHT, 0.0),
        Waypoint(200, "meet", (0.05, 0.0, 0.0), _DOWN_RIGHT, 0.0),
        Waypoint(220, "meet", (0.0, 0.0, 0.0), _DOWN_RIGHT, 0.0),
        Waypoint(310, "meet", (0.0, 0.0, 0.0), _DOWN_RIGHT, 1.0),
        Waypoint(360, "meet", (0.1, 0.0, 0.0), _DOWN_RIGHT, 1.0),
        Waypoint(400, "meet", (0.1, 0.0, 0.0), _DOWN_RIGHT, 1.0),
    ),
)

_LIFT = 0.00715  # m by which the peg must be held higher than the socket to hit its opening

_INSERTION = Script(
    meet=(0.0, 0.5, 0.15),
    left=(
        _START,
        Waypoint(120, "socket", (0.0, 0.0, 0.08), _DOWN_LEFT, 1.0),
        Waypoint(170, "socket", (0.0, 0.0, -0.03), _DOWN_LEFT, 1.0),
        Waypoint(220, "socket", (0.0, 0.0, -0.03), _DOWN_LEFT, 0.0),
        Waypoint(285, "meet", (-0.1, 0.0, 0.0), _DOWN_LEFT, 0.0),
        Waypoint(340, "meet", (-0.05, 0.0, 0.0), _DOWN_LEFT, 0.0),
        Waypoint(400, "meet", (-0.05, 0.0, 0.0), _DOWN_LEFT, 0.0),
    ),
    right=(
        _START,
        Waypoint(120, "peg", (0.0, 0.0, 0.08), _DOWN_RIGHT, 1.0),
        Waypoint(170, "peg", (0.0, 0.0, -0.03), _DOWN_RIGHT, 1.0),
        Waypoint(220, "peg", (0.0, 0.0, -0.03), _DOWN_RIGHT, 0.0),
        Waypoint(285, "meet", (0.1, 0.0, _LIFT), _DOWN_RIGHT, 0.0),
        Waypoint(340, "meet", (0.05, 0.0, _LIFT), _DOWN_RIGHT, 0.0),
        Waypoint(400, "meet", (0.05, 0.0, _LIFT), _DOWN_RIGHT, 0.0),
    ),
)

_SCRIPTS = {"transfer_cube": (_TRANSFER, ("cube",)), "insertion": (_INSERTION, ("peg", "socket"))}
_HANDS_START = np.array([[-0.31718881, 0.5, 0.29525084], [0.31718881, 0.5, 0.29525084]])


class AlohaExpert:
    """Plans a whole episode at ``reset`` (0.2 s) and plays it, without feedback and without noise."""

    def __init__(self, task: str) -> None:
        from gym_aloha.constants import ASSETS_DIR
        from mujoco import MjData, MjModel

        self._script, self._objects = _SCRIPTS[task]
        self._model = MjModel.from_xml_path(str(ASSETS_DIR / f"bimanual_viperx_end_effector_{task}.xml"))
        self._model.eq_solimp[:, :2] = _WELD_STIFFNESS
        self._data = MjData(self._model)

    def reset(self, env: gym.Env, seed: int) -> None:
        """Plan for where the objects of ``env`` lie now; there is nothing random to seed."""
        simulator: Any = env.unwrapped
        self._plan = self._follow(simulator.object_poses)
        self._step = 0

    def act(self, env: gym.Env, observation: Observation) -> npt.NDArray[np.float32]:
        """Return the joint targets (14,) float32; past the plan's end, its last ones."""
        action = self._plan[min(self._step, len(self._plan) - 1)]
        self._step += 1
        return action.astype(np.float32)

    def _follow(self, object_poses: Array) -> Array:
        """Pull the grippers along the waypoints in an own simulation; return the joints' path, (400, 14)."""
        import mujoco

        hands = self._hand_path(object_poses)
        model, data = self._model, self._data
        _start_state(model, data, object_poses)
        path = np.empty((PLAN_STEPS, 2, ARM_JOINTS + 1))
        for step in range(PLAN_STEPS):
            arms = data.qpos[:FULL_QPOS].reshape(2, -1)
            path[step, :, :ARM_JOINTS] = arms[:, :ARM_JOINTS]
            path[step, :, ARM_JOINTS] = _opening(data.ctrl[::2])
            data.mocap_pos[:], data.mocap_quat[:] = hands[step, :, :3], hands[step, :, 3:7]
            fingers = _finger_position(hands[step, :, 7])
            data.ctrl[:] = np.stack([fingers, -fingers], axis=1).ravel()
            mujoco.mj_step(model, data, nstep=_SUBSTEPS)
        return path.reshape(PLAN_STEPS, -1)

    def _hand_path(self, object_poses: Array) -> Array:
        """Interpolate the waypoints: (400, 2 arms, place 3 + quaternion 4 + opening 1)."""
        places = dict(zip(self._objects, object_poses.reshape(-1, 7)[:, :3], strict=True))
        path = np.empty((PLAN_STEPS, 2, 8))
        for arm, waypoints in enumerate((self._script.left, self._script.right)):
            anchors = {**places, "meet": np.array(self._script.meet), "start": _HANDS_START[arm]}
            steps = [waypoint.step for waypoint in waypoints]
            targets = np.array([[*(anchors[w.anchor] + np.array(w.offset)), *w.rotation, w.opening] for w in waypoints])
            for column in range(8):
                path[:, arm, column] = np.interp(np.arange(PLAN_STEPS), steps, targets[:, column])
        return path


def _start_state(model: "mujoco.MjModel", data: "mujoco.MjData", object_poses: Array) -> None:
    import mujoco
    from gym_aloha.constants import START_ARM_POSE

    mujoco.mj_resetData(model, data)
    data.qpos[:FULL_QPOS] = START_ARM_POSE
    data.qpos[FULL_QPOS:] = object_poses
    data.mocap_pos[:] = _HANDS_START
    data.mocap_quat[:] = _STRAIGHT
    closed = _finger_position(np.zeros(2))
    data.ctrl[:] = np.stack([closed, -closed], axis=1).ravel()
    mujoco.mj_forward(model, data)


def _finger_position(opening: Array) -> Array:
    """Turn a gripper's opening, 0 ... 1, into its finger's place in m."""
    from gym_aloha.constants import unnormalize_puppet_gripper_position

    return np.asarray(unnormalize_puppet_gripper_position(opening))


def _opening(finger: Array) -> Array:
    from gym_aloha.constants import normalize_puppet_gripper_position

    return np.asarray(normalize_puppet_gripper_position(finger))
