"""LeRobot's SO-101 units (degrees, gripper 0 to 100 percent open) to and from MuJoCo's radians."""

import numpy as np

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
MOTOR_NAMES = [f"{joint}.pos" for joint in JOINTS]

# Joint limits in radians, in the order of JOINTS; the file arm.xml has the same ones.
LOW_RAD = np.array([-1.91986, -1.7453293, -1.69, -1.658063, -2.7438473, -0.174533])
HIGH_RAD = np.array([1.91986, 1.7453293, 1.69, 1.658063, 2.7438473, 1.7453292])

_GRIPPER_PERCENT_PER_RAD = 100.0 / (HIGH_RAD[5] - LOW_RAD[5])
_SCALE = np.array([180.0 / np.pi] * 5 + [_GRIPPER_PERCENT_PER_RAD])
_OFFSET = np.array([0.0] * 5 + [-LOW_RAD[5] * _GRIPPER_PERCENT_PER_RAD])


def to_radians(motors: np.ndarray) -> np.ndarray:
    """Convert (..., 6) LeRobot values to joint angles in radians.

    >>> to_radians(np.array([90.0, 0.0, 0.0, 0.0, 0.0, 100.0])).round(4).tolist()
    [1.5708, 0.0, 0.0, 0.0, 0.0, 1.7453]
    """
    return (motors - _OFFSET) / _SCALE


def from_radians(angles_rad: np.ndarray) -> np.ndarray:
    """Convert (..., 6) joint angles in radians to LeRobot values.

    >>> from_radians(np.array([0.0, 0.0, 0.0, 0.0, 0.0, -0.174533])).round(4).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    return angles_rad * _SCALE + _OFFSET
