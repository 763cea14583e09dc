"""The Feetech STS3215 bus servo as a MuJoCo position actuator, in two variants."""

from dataclasses import dataclass

import mujoco
import numpy as np


@dataclass(frozen=True)
class Servo:
    """Torque = kp (target - q) - kv dq/dt, cut at the force limit; the joint adds damping of its own."""

    kp_nm_per_rad: float
    kv_nms_per_rad: float
    joint_damping_nms_per_rad: float
    armature_kgm2: float
    frictionloss_nm: float
    force_limit_nm: float
    gripper_force_limit_nm: float


SERVOS = {
    # Stall torque 2.94 N m over no-load speed 4.7 rad/s gives the joint damping. Users measure 1.8 to 2.6
    # degrees of error at 15 kg cm, hence kp 32 to 47: the arm sags by a degree when stretched and trails its
    # target by about 0.05 s, as the real one does. LeRobot halves the gripper's torque to protect it.
    # Dry friction of 0.05 N m would shift a joint by less than 0.1 degrees and cost a fifth of the speed.
    "soft": Servo(38.0, 1.5, 0.6, 0.028, 0.0, 2.94, 1.47),
    # The gains of mujoco_menagerie's SO-101 (Apache-2.0): full torque from 3 mrad of error on, no lag.
    "stiff": Servo(998.22, 2.731, 0.6, 0.028, 0.052, 2.94, 1.47),
}


def add_servos(spec: mujoco.MjSpec, servo: Servo) -> None:
    """Give every hinge of the arm ``spec`` its passive terms and one position actuator of the same name."""
    for joint in spec.joints:
        joint.damping = np.array([servo.joint_damping_nms_per_rad, 0.0, 0.0])
        joint.armature = servo.armature_kgm2
        joint.frictionloss = servo.frictionloss_nm
        limit = servo.gripper_force_limit_nm if joint.name == "gripper" else servo.force_limit_nm
        actuator = spec.add_actuator(name=joint.name, target=joint.name)
        actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
        actuator.set_to_position(kp=servo.kp_nm_per_rad, kv=servo.kv_nms_per_rad)
        actuator.ctrlrange = joint.range
        actuator.forcerange = [-limit, limit]
