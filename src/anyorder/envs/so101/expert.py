"""The scripted demonstrator: plays a script stretch by stretch and disturbs it."""

import math
from collections.abc import Iterator

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Observation
from anyorder.envs.so101.env import FPS, So101Env
from anyorder.envs.so101.tasks import make_task
from anyorder.envs.so101.trajectory import Planner
from anyorder.envs.so101.units import HIGH_RAD, LOW_RAD, from_radians

# Two equal low-pass filters in a row: their output has no kinks, which an action tokenizer would pay for.
_NOISE_KEEP = math.exp(-1.0 / (0.15 * FPS))
_NOISE_GAIN = math.sqrt((1.0 - _NOISE_KEEP**2) ** 3 / (1.0 + _NOISE_KEEP**2))
_LOW, _HIGH = from_radians(LOW_RAD), from_radians(HIGH_RAD)


class So101Expert:
    """Plays one task's script while a smooth disturbance shakes the five arm joints.

    The disturbance is part of the action that is sent, while the plan keeps heading for the same poses, so
    the demonstrations show how to come back. ``noise_deg`` is its standard deviation.
    """

    def __init__(self, task: str, noise_deg: float) -> None:
        self._script = make_task(task).script
        self._noise_deg = noise_deg

    def reset(self, env: gym.Env, seed: int) -> None:
        """Plan for the episode ``env`` was just reset to; ``seed`` drives noise and free choices."""
        world = _so101(env)
        start = from_radians(world.scene.arm_qpos)
        self._planner = Planner(world.scene.model, world.servo, 1.0 / FPS, start)
        self._rng = np.random.default_rng(seed)
        self._stretches = self._script(world.scene, self._rng.spawn(1)[0])
        self._actions: Iterator[np.ndarray] = iter(())
        self._filtered_deg: np.ndarray = np.zeros(5)
        self._disturbance_deg: np.ndarray = np.zeros(5)

    def act(self, env: gym.Env, observation: Observation) -> np.ndarray:
        """Return the target joint positions (6,) float32 in LeRobot units."""
        action = next(self._actions, None)
        if action is None:
            self._actions = iter(self._planner.plan(next(self._stretches)))
            action = next(self._actions)
        fresh_deg = self._noise_deg * _NOISE_GAIN * self._rng.normal(size=5)
        self._filtered_deg = _NOISE_KEEP * self._filtered_deg + fresh_deg
        self._disturbance_deg = _NOISE_KEEP * self._disturbance_deg + self._filtered_deg
        action[:5] += self._disturbance_deg
        return np.clip(action, _LOW, _HIGH).astype(np.float32)


def _so101(env: gym.Env) -> So101Env:
    world = env.unwrapped
    if not isinstance(world, So101Env):
        raise TypeError(f"this expert plays SO-101 tasks, not {type(world).__name__}")
    return world
