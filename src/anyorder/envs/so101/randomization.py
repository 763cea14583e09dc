"""Domain randomization: one named level sets how far physics, servos and looks stray."""

from dataclasses import dataclass

import mujoco
import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class RandomizationRanges:
    """Uniform ranges, drawn anew for every episode. Scales multiply the nominal value."""

    mass_scale: Range = (1.0, 1.0)
    friction_scale: Range = (1.0, 1.0)
    kp_scale: Range = (1.0, 1.0)
    damping_scale: Range = (1.0, 1.0)
    latency_s: Range = (0.0, 0.0)
    light_scale: Range = (1.0, 1.0)
    light_tilt: float = 0.0
    camera_shift_m: float = 0.0
    camera_turn_rad: float = 0.0


RANDOMIZATIONS = {
    "none": RandomizationRanges(),
    "mild": RandomizationRanges(
        mass_scale=(0.8, 1.25),
        friction_scale=(0.8, 1.2),
        kp_scale=(0.9, 1.1),
        damping_scale=(0.9, 1.1),
        latency_s=(0.0, 0.017),
        light_scale=(0.8, 1.2),
        light_tilt=0.2,
        camera_shift_m=0.005,
        camera_turn_rad=0.01,
    ),
    "strong": RandomizationRanges(
        mass_scale=(0.5, 2.0),
        friction_scale=(0.6, 1.4),
        kp_scale=(0.75, 1.3),
        damping_scale=(0.75, 1.3),
        latency_s=(0.0, 0.05),
        light_scale=(0.5, 1.4),
        light_tilt=0.6,
        camera_shift_m=0.02,
        camera_turn_rad=0.05,
    ),
}

_FIELDS = (
    "body_mass",
    "body_inertia",
    "geom_friction",
    "actuator_gainprm",
    "actuator_biasprm",
    "dof_damping",
    "light_diffuse",
    "light_dir",
    "cam_pos",
    "cam_quat",
)


class Randomizer:
    """Applies ranges to a model, always starting from its nominal values."""

    def __init__(self, model: mujoco.MjModel, cubes: list[str], ranges: RandomizationRanges) -> None:
        self._nominal = {field: getattr(model, field).copy() for field in _FIELDS}
        self._cube_bodies = [model.body(name).id for name in cubes]
        self._ranges = ranges

    def apply(self, model: mujoco.MjModel, data: mujoco.MjData, rng: np.random.Generator) -> float:
        """Draw this episode's parameters into ``model`` and return the servos' latency in seconds.

        ``data`` is scratch: its state is reset.
        """
        ranges = self._ranges
        if ranges == RANDOMIZATIONS["none"]:
            return 0.0
        for field, value in self._nominal.items():
            getattr(model, field)[:] = value

        mass_scale = rng.uniform(*ranges.mass_scale, size=len(self._cube_bodies))
        model.body_mass[self._cube_bodies] *= mass_scale
        model.body_inertia[self._cube_bodies] *= mass_scale[:, None]
        model.geom_friction[:, 0] *= rng.uniform(*ranges.friction_scale)

        kp_scale = rng.uniform(*ranges.kp_scale, size=model.nu)
        damping_scale = rng.uniform(*ranges.damping_scale, size=model.nu)
        model.actuator_gainprm[:, 0] *= kp_scale
        model.actuator_biasprm[:, 1] *= kp_scale
        model.actuator_biasprm[:, 2] *= damping_scale
        model.dof_damping[: model.nu] *= damping_scale

        model.light_diffuse *= rng.uniform(*ranges.light_scale)
        model.light_dir[:, :2] += rng.uniform(-ranges.light_tilt, ranges.light_tilt, size=2)
        model.cam_pos += rng.uniform(-ranges.camera_shift_m, ranges.camera_shift_m, size=model.cam_pos.shape)
        for quat in model.cam_quat:
            mujoco.mju_quatIntegrate(quat, rng.normal(size=3), rng.uniform(0.0, ranges.camera_turn_rad))

        mujoco.mj_setConst(model, data)  # masses feed constants that the solver scales contacts with
        return rng.uniform(*ranges.latency_s)
