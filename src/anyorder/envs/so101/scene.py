"""The arm on its table with cubes, a goal mark, cameras and lights, and quick access to what is in it."""

import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

import mujoco
import numpy as np

from anyorder.envs.so101.servo import Servo, add_servos

PAN_AXIS_X_M = 0.0388353  # the shoulder pans about this vertical line; distances of objects count from it
GOAL_RADIUS_M = 0.02
LIFTED_M = 0.05
"""A cube whose center is this far above its place on the table is up."""

_ARM_DOF = 6
_TABLE_BIT, _ARM_BIT = 2, 1
_SOLID: dict[str, Any] = {"contype": _TABLE_BIT, "conaffinity": _TABLE_BIT | _ARM_BIT, "friction": [0.5, 0.005, 0.0001]}


def polar(x_m: float, y_m: float) -> tuple[float, float]:
    """Return distance in metres and azimuth in radians of a place on the table, seen from the pan axis.

    >>> polar(PAN_AXIS_X_M, 0.2)
    (0.2, 1.5707963267948966)
    """
    x_from_axis_m = x_m - PAN_AXIS_X_M
    return math.hypot(x_from_axis_m, y_m), math.atan2(y_m, x_from_axis_m)


@dataclass(frozen=True)
class Cube:
    """A free cube; ``name`` prefixes its features in ``environment_state``."""

    name: str
    rgba: tuple[float, float, float, float]
    half_size_m: float = 0.0125
    mass_kg: float = 0.020


def build_model(cubes: tuple[Cube, ...], *, goal: bool, servo: Servo, width: int, height: int) -> mujoco.MjModel:
    """Compile the arm and ``cubes`` on a table; ``width`` and ``height`` in pixels bound the images."""
    arm = resources.files(__package__).joinpath("arm.xml").read_text(encoding="utf-8")
    spec = mujoco.MjSpec.from_string(arm)
    add_servos(spec, servo)
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.75, 0.75, 0.05], rgba=[0.74, 0.72, 0.69, 1.0], **_SOLID
    )
    for cube in cubes:
        body = spec.worldbody.add_body(name=cube.name, pos=[0.2, 0.0, cube.half_size_m])
        body.add_freejoint(name=cube.name)
        body.add_geom(
            name=cube.name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[cube.half_size_m] * 3,
            mass=cube.mass_kg,
            rgba=cube.rgba,
            **_SOLID,
        )
    if goal:
        spec.worldbody.add_site(
            name="goal",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[0.2, 0.0, 0.0006],
            size=[GOAL_RADIUS_M, 0.0005, 0.0],
            rgba=[0.16, 0.62, 0.36, 1.0],
        )
    _add_cameras_and_lights(spec, width, height)
    return spec.compile()


def _add_cameras_and_lights(spec: mujoco.MjSpec, width: int, height: int) -> None:
    for name, eye, target, fovy_deg in (
        ("front", (0.58, 0.0, 0.36), (0.215, 0.0, 0.03), 38.0),
        ("overview", (0.60, -0.44, 0.36), (0.15, 0.0, 0.075), 33.0),
    ):
        spec.worldbody.add_camera(name=name, pos=eye, quat=_look_at(eye, target), fovy=fovy_deg)
    spec.worldbody.add_light(
        name="key",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.3, -0.4, 1.2],
        dir=[-0.25, 0.45, -1.0],
        diffuse=[0.55, 0.55, 0.53],
        specular=[0.2, 0.2, 0.2],
        castshadow=False,
    )
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.93, 0.95, 0.97],
        rgb2=[0.55, 0.63, 0.72],
        width=64,
        height=384,
    )
    visual = spec.visual
    visual.headlight.ambient = [0.34, 0.34, 0.34]
    visual.headlight.diffuse = [0.32, 0.32, 0.32]
    visual.headlight.specular = [0.05, 0.05, 0.05]
    visual.map.znear = 0.01
    # Without a graphics card, multisampling and every triangle count: this renders several times faster.
    visual.quality.offsamples = 0
    visual.quality.numslices, visual.quality.numstacks, visual.quality.numquads = 16, 8, 1
    visual.global_.offwidth = width
    visual.global_.offheight = height


def _look_at(eye: tuple[float, ...], target: tuple[float, ...]) -> np.ndarray:
    """Return the quaternion (w, x, y, z) of a camera at ``eye`` that looks at ``target``, world z upwards."""
    backward = np.subtract(eye, target) / np.linalg.norm(np.subtract(eye, target))
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([right, np.cross(backward, right), backward]).ravel())
    return quat


class Scene:
    """A model and its data, with cubes addressed by number; positions in metres in the base frame."""

    def __init__(self, model: mujoco.MjModel, cubes: tuple[Cube, ...]) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.cubes = cubes
        self._cube_body = [model.body(cube.name).id for cube in cubes]
        self._arm_bodies = range(model.body("base").id, model.body("moving_jaw").id + 1)
        # Views, because every attribute of MjData costs as much as the arithmetic done with it.
        self.arm_qpos = self.data.qpos[:_ARM_DOF]
        self._cube_qpos = [self.data.qpos[_ARM_DOF + 7 * i : _ARM_DOF + 7 * (i + 1)] for i in range(len(cubes))]
        self._tcp = model.site("tcp").id
        self._goal_site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, "goal")

    def place_cube(self, index: int, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Put a cube flat on the table; the caller runs ``mj_forward``."""
        half_size_m = self.cubes[index].half_size_m
        quat = [math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]
        self._cube_qpos[index][:] = [x_m, y_m, half_size_m, *quat]

    def place_goal(self, x_m: float, y_m: float) -> None:
        """Move the goal mark; the caller runs ``mj_forward``."""
        self.model.site_pos[self._goal_site, :2] = x_m, y_m

    def goal_m(self) -> tuple[float, float]:
        """Return the goal mark's x and y."""
        x_m, y_m, _ = self.model.site_pos[self._goal_site].tolist()
        return x_m, y_m

    def cube_m(self, index: int) -> tuple[float, float, float]:
        """Return a cube's center."""
        x_m, y_m, z_m, *_ = self._cube_qpos[index].tolist()
        return x_m, y_m, z_m

    def cube_yaw_rad(self, index: int) -> float:
        """Return the heading of a cube modulo 90 degrees, whichever face is up."""
        _, _, _, w, x, y, z = self._cube_qpos[index].tolist()
        up = (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y))
        top = max(range(3), key=lambda axis: abs(up[axis]))
        if top == 2:
            return math.atan2(2 * (x * y + w * z), 1 - 2 * (y * y + z * z))
        if top == 0:
            return math.atan2(1 - 2 * (x * x + z * z), 2 * (x * y - w * z))
        return math.atan2(2 * (y * z - w * x), 2 * (x * z + w * y))

    def cube_features(self, index: int) -> list[float]:
        """Return distance (m), azimuth (rad), height (m), and sine and cosine of four times the cube's turn.

        The turn is the yaw counted from the line to the pan axis: how far the wrist must roll to grasp. A
        cube turned by 90 degrees more looks the same, and has the same features.
        """
        x_m, y_m, z_m = self.cube_m(index)
        distance_m, azimuth_rad = polar(x_m, y_m)
        four_turns_rad = 4.0 * (self.cube_yaw_rad(index) - azimuth_rad)
        return [distance_m, azimuth_rad, z_m, math.sin(four_turns_rad), math.cos(four_turns_rad)]

    def tool(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the tool center point (3,) between the jaws and its rotation (3, 3)."""
        return self.data.site_xpos[self._tcp], self.data.site_xmat[self._tcp].reshape(3, 3)

    def gripper_rad(self) -> float:
        """Return the angle of the moving jaw."""
        return float(self.arm_qpos[5])

    def cube_speed_m_s(self, index: int) -> float:
        """Return the speed of a cube's center."""
        start = _ARM_DOF + 6 * index
        return math.hypot(*self.data.qvel[start : start + 3].tolist())

    def is_touched(self, index: int) -> bool:
        """Whether any part of the arm touches the cube."""
        cube = self._cube_body[index]
        pairs = self.model.geom_bodyid[self.data.contact.geom].tolist()
        return any(cube in pair and any(body in self._arm_bodies for body in pair) for pair in pairs)

    def is_released(self, index: int) -> bool:
        """Whether a cube is at rest and the arm does not touch it."""
        return self.cube_speed_m_s(index) < 0.01 and not self.is_touched(index)

    def is_up(self, index: int) -> bool:
        """Whether a cube is ``LIFTED_M`` above the table."""
        return self.cube_m(index)[2] > LIFTED_M + self.cubes[index].half_size_m

    def is_on_goal(self, index: int, slack_m: float) -> bool:
        """Whether a cube's center is over the goal mark, the cube less than ``slack_m`` above the table."""
        x_m, y_m, z_m = self.cube_m(index)
        over = math.dist((x_m, y_m), self.goal_m()) < GOAL_RADIUS_M
        return over and z_m < self.cubes[index].half_size_m + slack_m
