"""The SO-101 tasks as a Gymnasium environment."""

import math
from collections import deque
from typing import TYPE_CHECKING, Any, override

import gymnasium as gym
import mujoco
import numpy as np

from anyorder.envs.base import Observation
from anyorder.envs.simulator import RENDER_SIZE, SimulatorEnv
from anyorder.envs.so101.randomization import RANDOMIZATIONS, Randomizer
from anyorder.envs.so101.scene import Scene, build_model
from anyorder.envs.so101.servo import SERVOS
from anyorder.envs.so101.tasks import make_task
from anyorder.envs.so101.units import HIGH_RAD, LOW_RAD, MOTOR_NAMES, from_radians, to_radians
from anyorder.errors import EnvError

if TYPE_CHECKING:
    from anyorder.envs.so101 import So101Config

FPS = 30
HOME = np.array([0.0, -30.0, 30.0, 80.0, 0.0, 30.0])  # LeRobot units: the gripper hangs over the table, a third open

_SUBSTEPS = 5
_HOLD_STEPS = 5
_HOME_JITTER = np.array([10.0, 6.0, 6.0, 6.0, 10.0, 8.0])


class So101Env(SimulatorEnv):
    """SO-101 on a table; action = target joint positions (6,) float32 in LeRobot units, held for 1/30 s.

    The reward is 1 on the step of success, otherwise 0. Success means that the task's condition held for five
    steps in a row, and ends the episode.
    """

    fps = FPS
    view = "overview"

    def __init__(self, config: "So101Config", render_mode: str | None = None) -> None:
        self.servo = SERVOS[config.servo]
        self._task = make_task(config.task)
        width, height = max(config.image_width, RENDER_SIZE[0]), max(config.image_height, RENDER_SIZE[1])
        cubes = self._task.cubes
        model = build_model(cubes, goal=self._task.has_goal, servo=self.servo, width=width, height=height)
        self.scene = Scene(model, cubes)
        names = [cube.name for cube in cubes]
        self._randomizer = Randomizer(model, names, RANDOMIZATIONS[config.randomization])

        low, high = from_radians(LOW_RAD), from_radians(HIGH_RAD)
        super().__init__(
            config,
            description=self._task.description,
            max_episode_steps=config.max_episode_steps or self._task.max_episode_steps,
            state_names=MOTOR_NAMES,
            environment_names=self._task.environment_names(),
            action_names=MOTOR_NAMES,
            action_space=gym.spaces.Box(low.astype(np.float32), high.astype(np.float32)),
        )
        self.render_mode = render_mode
        self._latency_substeps = 0
        self._targets_rad: deque[np.ndarray] = deque()
        self._held_steps = 0

    @override
    def _begin(self, seed: int | None) -> None:
        model, data = self.scene.model, self.scene.data
        latency_s = self._randomizer.apply(model, data, self.np_random)
        mujoco.mj_resetData(model, data)
        start_rad = to_radians(HOME + self.np_random.uniform(-1.0, 1.0, size=6) * _HOME_JITTER)
        self.scene.arm_qpos[:] = start_rad
        data.ctrl[:] = start_rad
        self._task.arrange(self.scene, self.np_random)
        mujoco.mj_forward(model, data)
        self._latency_substeps = round(latency_s / model.opt.timestep)
        depth = 2 + self._latency_substeps // _SUBSTEPS
        self._targets_rad = deque([start_rad] * depth, maxlen=depth)
        self._held_steps = 0

    @override
    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Move towards ``action``, clipped to the joint limits, for 1/30 s.

        Raises:
            EnvError: the action has another shape than (6,) or is not finite.
        """
        motors = np.asarray(action, dtype=np.float64)
        if motors.shape != (6,) or not math.isfinite(motors.sum()):
            raise EnvError("action", np.asarray(action).tolist(), "6 finite numbers")
        self._advance(np.minimum(np.maximum(to_radians(motors), LOW_RAD), HIGH_RAD))
        self._held_steps = self._held_steps + 1 if self._task.is_done(self.scene) else 0
        success = self._held_steps >= _HOLD_STEPS
        return self._outcome(float(success), success)

    def _advance(self, target_rad: np.ndarray) -> None:
        """Run one control step; with latency, its first part still follows an older target."""
        model, data = self.scene.model, self.scene.data
        if self._latency_substeps == 0:
            data.ctrl[:] = target_rad
            mujoco.mj_step(model, data, nstep=_SUBSTEPS)
            return
        self._targets_rad.appendleft(target_rad)
        whole, part = divmod(self._latency_substeps, _SUBSTEPS)
        data.ctrl[:] = self._targets_rad[whole + 1]
        mujoco.mj_step(model, data, nstep=part)
        data.ctrl[:] = self._targets_rad[whole]
        mujoco.mj_step(model, data, nstep=_SUBSTEPS - part)

    @override
    def _state(self) -> tuple[Any, Any]:
        return from_radians(self.scene.arm_qpos), self._task.environment_state(self.scene)

    @override
    def _picture(self, camera: str, size: tuple[int, int]) -> np.ndarray:
        return self._renderers.render(self.scene.model, self.scene.data, camera, size)
