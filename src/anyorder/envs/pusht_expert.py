"""The scripted expert of PushT: plans pushes anew at every step, walks around the block, pushes."""

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.base import Observation
from anyorder.envs.pusht import WORKSPACE
from anyorder.envs.pusht_planner import CHANGE, CLEARANCE, WALK_SPEED, Contacts, Pose, Push, PushPlanner
from anyorder.envs.pusht_ways import Ways, ahead, near_block, nearest_free

Array = npt.NDArray[Any]

_WALK_LEAD, _PUSH_LEAD = 36.0, 18.0
"""How far the target runs ahead of the agent, px; the agent moves some 0.4 of it in a step."""
_LEAST_LEAD = 5.0
"""So far the target runs ahead unless the push is the last, lest the agent creeps."""
_ESCAPE_LEAD = 20.0
_LATERAL = 5.0
"""Agents so near (px) to the line of a push need not walk."""


class PushtExpert:
    """Acts by the observation alone, without memory and without noise."""

    def __init__(self) -> None:
        self._contacts = Contacts()
        self._ways = Ways(self._contacts.before)
        self._planner = PushPlanner(self._contacts, self._ways.between)

    def reset(self, env: gym.Env, seed: int) -> None:
        """Do nothing: there is nothing to plan ahead and nothing random to seed."""

    def act(self, env: gym.Env, observation: Observation) -> npt.NDArray[np.float32]:
        """Return the target (2,) float32, px."""
        agent = complex(*observation["agent_pos"].astype(np.float64))
        points = observation["environment_state"].astype(np.float64).reshape(-1, 2)
        pose = Pose.of_keypoints(points[:, 0] + 1j * points[:, 1])
        target = self._target(agent, pose)
        return np.clip([target.real, target.imag], 0.0, WORKSPACE).astype(np.float32)

    def _target(self, agent: complex, pose: Pose) -> complex:
        local = pose.to_block(agent)
        start = nearest_free(local)
        routes = self._ways.routes(start, pose)
        depth = (local - self._contacts.touch) / self._contacts.normals
        ready = (np.abs(depth.imag) < _LATERAL) & (depth.real < 3.0) & (depth.real > 11.0 - CLEARANCE)
        walk = np.where(ready, 0.0, (routes.lengths + abs(start - local)) / WALK_SPEED + CHANGE)
        push = self._planner.plan(pose, walk)
        self.mode = "n"; self._last = push and push.contact
        if push is None:
            return agent
        if ready[push.contact]:
            self.mode = "p"
            return self._pushed(pose, push)
        if near_block(local):
            self.mode = "e"
            way = start - local
            return complex(pose.to_world(local + way / abs(way) * max(abs(way), _ESCAPE_LEAD)))
        self.mode = "w"
        return complex(pose.to_world(ahead(routes.path(push.contact), _WALK_LEAD)))

    def _pushed(self, pose: Pose, push: Push) -> complex:
        """Return where the agent will be after a while of pushing, at most until the push is done."""
        length = min(push.length if push.last else max(push.length, _LEAST_LEAD), _PUSH_LEAD)
        place, turn = self._contacts.moved(pose.place, pose.turn, push.contact, length)
        return complex(place + turn * self._contacts.touch[push.contact])
