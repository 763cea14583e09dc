"""The scripted expert of PushT: plans pushes anew at every step, walks around the block, pushes."""

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.base import Observation
from anyorder.envs.pusht.env import WORKSPACE
from anyorder.envs.pusht.planner import CHANGE, CLEARANCE, WALK_SPEED, Contacts, Pose, Push, PushPlanner
from anyorder.envs.pusht.ways import Ways, ahead, near_block, nearest_free

_WALK_LEAD, _PUSH_LEAD = 36.0, 18.0
"""The target runs so far ahead of the agent, px; the agent moves 0.4 of it in a step."""
_LEAST_LEAD = 5.0
"""The target runs at least so far ahead, px, except in a plan's last push: otherwise the agent would creep."""
_LEAVE_LEAD = 20.0
_LATERAL = 5.0
"""An agent so near (px) to the line of a push need not walk."""


class PushtExpert:
    """A function of the observation alone, without memory, plus white noise of ``noise`` px if wanted."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise
        self._contacts = Contacts()
        self._ways = Ways(self._contacts.before)
        self._planner = PushPlanner(self._contacts, self._ways.between)

    def reset(self, env: gym.Env, seed: int) -> None:
        """Start anew; ``seed`` drives the noise."""
        self._rng = np.random.default_rng(seed)

    def act(self, env: gym.Env, observation: Observation) -> npt.NDArray[np.float32]:
        """Return the target (2,) float32, px."""
        agent = complex(*observation["agent_pos"].astype(np.float64))
        keypoints = observation["environment_state"].astype(np.float64).reshape(-1, 2) @ (1, 1j)
        target = self._target(agent, Pose.of_keypoints(keypoints))
        noisy = np.array([target.real, target.imag]) + self._noise * self._rng.normal(size=2)
        return np.clip(noisy, 0.0, WORKSPACE).astype(np.float32)

    def _target(self, agent: complex, pose: Pose) -> complex:
        local = pose.to_block(agent)
        start = nearest_free(local)
        routes = self._ways.routes(start, pose)
        depth = (local - self._contacts.touch) / self._contacts.normals
        ready = (np.abs(depth.imag) < _LATERAL) & (depth.real < 3.0) & (depth.real > 11.0 - CLEARANCE)
        walk = np.where(ready, 0.0, (routes.lengths + abs(start - local)) / WALK_SPEED + CHANGE)
        push = self._planner.plan(pose, walk)
        if push is None:
            return agent
        if ready[push.contact]:
            return self._pushed(pose, push)
        if near_block(local):
            leave = start - local
            return pose.to_world(local + leave * max(1.0, _LEAVE_LEAD / abs(leave)))
        return pose.to_world(ahead(routes.path(push.contact), _WALK_LEAD))

    def _pushed(self, pose: Pose, push: Push) -> complex:
        """Return where the agent will be after a while of pushing, at most until the push is done."""
        length = push.length if push.last else max(push.length, _LEAST_LEAD)
        place, turn = self._contacts.moved(pose.place, pose.turn, push.contact, min(length, _PUSH_LEAD))
        return complex(place + turn * self._contacts.touch[push.contact])
