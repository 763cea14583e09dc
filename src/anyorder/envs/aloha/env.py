"""The two simulated ALOHA tasks of ACT (arXiv 2304.13705): two arms hand over a cube or mate peg and socket.

Simulation and tasks come from the package gym-aloha, whose own environment renders three large images at
every step; this one renders only what is asked for, and adds the state of the objects.
"""

from dataclasses import dataclass
from typing import Any, override

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Expert, Observation, require_simulator
from anyorder.envs.simulator import Array, SimulatorConfig, SimulatorEnv, cameras_among
from anyorder.errors import MAX_COUNT
from anyorder.settings import setting

_SENTENCES = {
    "transfer_cube": "Pick up the cube with the right arm and hand it over to the left arm.",
    "insertion": "Pick up the peg and the socket and insert the peg into the socket.",
}
_OBJECTS = {"transfer_cube": ("cube",), "insertion": ("peg", "socket")}
_SUCCESS_REWARD = 4

FPS = 50
ARM_JOINTS = 6
FULL_QPOS = 16
"""The simulator has this many joint positions of both arms: six joints and two fingers each."""


@dataclass
class AlohaConfig(SimulatorConfig, choice="aloha"):
    """Settings of the ALOHA tasks."""

    task: str = setting("transfer_cube", "What to do.", among=_SENTENCES)
    cameras: list[str] = cameras_among("top", "angle", "front_close", "left_wrist", "right_wrist")
    max_episode_steps: int = setting(
        400, "Steps of 1/50 s before truncation; the expert needs up to 400.", least=1, most=MAX_COUNT
    )
    tasks = _SENTENCES

    @override
    def build(self) -> gym.Env:
        require_simulator("gym_aloha", "aloha")
        return AlohaEnv(self)

    @override
    def expert(self) -> Expert:
        require_simulator("gym_aloha", "aloha")
        from anyorder.envs.aloha.expert import AlohaExpert

        return AlohaExpert(self.task)


class AlohaEnv(SimulatorEnv):
    """Two ViperX arms; action = target joint positions (14,) float32 for 1/50 s.

    Per arm, left first: six joints in rad and the gripper from 0 (closed) to 1 (open). ``agent_pos`` (14,)
    are the present positions in the same units, ``environment_state`` the place (m) and quaternion (w, x, y,
    z) of each object, 7 numbers an object. A seed puts the objects where gym-aloha puts them. The reward is
    the stage reached, 0 ... 4; 4 is success and ends the episode.
    """

    fps = FPS
    robot_type = "aloha"
    view = "top"

    def __init__(self, config: AlohaConfig) -> None:
        from gym_aloha.constants import ACTIONS

        self._sim = _simulation(config.task)
        model = self._sim.physics.model.ptr
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, config.image_width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, config.image_height)
        axes = ("x", "y", "z", "qw", "qx", "qy", "qz")
        super().__init__(
            config,
            description=_SENTENCES[config.task],
            max_episode_steps=config.max_episode_steps,
            state_names=ACTIONS,
            environment_names=[f"{name}.{axis}" for name in _OBJECTS[config.task] for axis in axes],
            action_names=ACTIONS,
            action_space=_action_space(model.actuator_ctrlrange),
        )

    @override
    def _begin(self, seed: int | None) -> None:
        from gym_aloha.tasks import sim
        from gym_aloha.utils import sample_box_pose, sample_insertion_pose

        place = self._drawn(seed)
        transfer = self.task == "transfer_cube"
        # The only way gym-aloha offers: its tasks read the objects' poses from this list when they are reset.
        sim.BOX_POSE[0] = sample_box_pose(place) if transfer else np.concatenate(sample_insertion_pose(place))
        self._values = self._sim.reset().observation

    @override
    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Drive the joints towards ``action``, clipped to their limits, for 1/50 s.

        Where rough actions throw the simulation off, the episode ends there, failed, and ``info["diverged"]`` is true.
        """
        from dm_control.rl.control import PhysicsError

        box: Any = self.action_space
        try:
            _, reward, _, self._values = self._sim.step(np.clip(action, box.low, box.high).astype(np.float64))
        except PhysicsError:
            return self._last, 0.0, True, False, {"is_success": False, "diverged": True}
        return self._outcome(reward, bool(reward == _SUCCESS_REWARD))

    @property
    def object_poses(self) -> Array:
        """Return place and quaternion of every object, as ``environment_state`` but float64."""
        return np.array(self._sim.physics.data.qpos[FULL_QPOS:])

    @override
    def _observe(self) -> Observation:
        self._last = super()._observe()
        return self._last

    @override
    def _state(self) -> tuple[Any, Any]:
        return self._values["qpos"], self._values["env_state"]

    @override
    def _picture(self, camera: str, size: tuple[int, int]) -> Array:
        physics = self._sim.physics
        return self._renderers.render(physics.model.ptr, physics.data.ptr, camera, size)


def _simulation(name: str) -> Any:
    """Make gym-aloha's task without the images that its observation renders."""
    from dm_control import mujoco
    from dm_control.rl import control
    from gym_aloha.constants import ASSETS_DIR, DT
    from gym_aloha.tasks import sim

    base: Any = {"transfer_cube": sim.TransferCubeTask, "insertion": sim.InsertionTask}[name]

    class ImageFree(base):
        """The task, observed by joints and objects only."""

        def get_observation(self, physics: Any) -> dict[str, Any]:
            return {"qpos": self.get_qpos(physics), "env_state": self.get_env_state(physics)}

    physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / f"bimanual_viperx_{name}.xml"))
    return control.Environment(physics, ImageFree(), control_timestep=DT)


def _action_space(ctrl_range: Array) -> gym.spaces.Box:
    """Take the joints' ranges from the 16 actuators; two of each arm are its fingers, one action together."""
    arms = ctrl_range.reshape(2, ARM_JOINTS + 2, 2)[:, : ARM_JOINTS + 1].copy()
    arms[:, ARM_JOINTS] = (0.0, 1.0)
    low, high = arms.reshape(-1, 2).T.astype(np.float32)
    return gym.spaces.Box(low, high, dtype=np.float32)
