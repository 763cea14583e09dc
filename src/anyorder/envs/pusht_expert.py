"""The scripted expert of PushT: at most three pushes to the goal, planned in closed form at every step.

The block has no inertia and no friction: a push on a flat face at a fixed point of it turns the block around a
centre that is fixed in the block, at distance ``GYRATION**2 / lever`` from the centre of mass (quasi-static
pushing, Lynch and Mason 1996, doi:10.1177/027836499601500602, with an isotropic limit surface). With rotations
written as unit complex numbers, three pushes i, j, k with centres c reach the goal's place p and angle E if

    a (c_j - c_i) + b (c_k - c_j) = p - c_i + E c_k,    a = e^{i turn_i},    b = a e^{i turn_j},

which is the inverse kinematics of a planar arm with two links, solved here for all triples of contacts at once.
Numbers are complex: x + iy in pixels, in the block's own frame (origin at the centre of mass) unless said.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.base import Observation
from anyorder.envs.pusht import BLOCK_KEYPOINTS, GOAL_POSE, WORKSPACE

Array = npt.NDArray[Any]

AGENT_RADIUS = 15.0
CENTRE_OF_MASS = 45j
"""In the frame of gym-pusht, whose origin is the middle of the bar's outer edge."""
INERTIA = 3000.0
"""Moment of inertia per mass, px^2."""

GAP = 6.0
"""Distance in px between agent and face before a push."""
CLEARANCE = AGENT_RADIUS + GAP
_WALL = 7.0
_PUSH_SPEED, _WALK_SPEED = 7.0, 13.0
_PUSH_LEAD, _WALK_LEAD = 22.0, 36.0
_CHANGE = 6.0
_LATERAL = 5.0
_NEGLIGIBLE = 0.7
_HALF_TURN_RADIUS = 50.0

_BOXES = np.array([[-60.0, 60.0, 0.0, 30.0], [-15.0, 15.0, 30.0, 120.0]])
"""Bar and stem in gym-pusht's frame: least and greatest x, least and greatest y."""


def _contacts() -> tuple[Array, Array]:
    """Return points on the faces and the inward normals there, (contacts,) complex."""
    faces: list[tuple[complex, list[complex]]] = [
        (1j, [complex(x, 0) for x in (-54, -36, -18, -4, 4, 18, 36, 54)]),
        (-1, [complex(60, y) for y in (6, 15, 24)]),
        (1, [complex(-60, y) for y in (6, 15, 24)]),
        (-1j, [complex(x, 30) for x in (-54, -45, -36, 36, 45, 54)]),
        (-1, [complex(15, y) for y in (51, 65, 80, 95, 112)]),
        (1, [complex(-15, y) for y in (51, 65, 80, 95, 112)]),
        (-1j, [complex(x, 120) for x in (-8, 8)]),
    ]
    points = [point - CENTRE_OF_MASS for _, along in faces for point in along]
    normals = [normal for normal, along in faces for _ in along]
    return np.array(points), np.array(normals, dtype=complex)


def _blocked(start: Array, end: Array, margin: float) -> Array:
    """Tell for each segment whether it passes within ``margin`` px of bar or stem (square corners)."""
    start, end = np.broadcast_arrays(start + CENTRE_OF_MASS, end + CENTRE_OF_MASS)
    hit = np.zeros(start.shape, dtype=bool)
    for box in _BOXES:
        enter, leave = np.zeros(start.shape), np.ones(start.shape)
        for low, high, origin, way in (
            (box[0], box[1], start.real, end.real - start.real),
            (box[2], box[3], start.imag, end.imag - start.imag),
        ):
            way = np.where(np.abs(way) < 1e-9, 1e-9, way)
            one, two = (low - margin - origin) / way, (high + margin - origin) / way
            enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
        hit |= enter < leave
    return hit


_CORNERS = np.array(
    [-60 - CLEARANCE - CLEARANCE * 1j, 60 + CLEARANCE - CLEARANCE * 1j, 60 + CLEARANCE + (30 + CLEARANCE) * 1j,
     -60 - CLEARANCE + (30 + CLEARANCE) * 1j, -15 - CLEARANCE + (120 + CLEARANCE) * 1j,
     15 + CLEARANCE + (120 + CLEARANCE) * 1j]) - CENTRE_OF_MASS
_MARGIN = CLEARANCE - 2.0
_OUTLINE = np.array([complex(*point) for point in BLOCK_KEYPOINTS]) - CENTRE_OF_MASS


def _nearest(point: complex) -> complex:
    """Return the point of the block's surface that is nearest to ``point`` outside of it."""
    z = point + CENTRE_OF_MASS
    candidates = [complex(np.clip(z.real, b[0], b[1]), np.clip(z.imag, b[2], b[3])) for b in _BOXES]
    return min(candidates, key=lambda c: abs(c - z)) - CENTRE_OF_MASS


class Planner:
    def __init__(self) -> None:
        self.points, self.normals = _contacts()
        self.lever = (self.points.conj() * self.normals).imag
        self.centres = 1j * self.normals * INERTIA / self.lever
        self.touch = self.points - AGENT_RADIUS * self.normals
        self.before = self.points - CLEARANCE * self.normals
        c = self.centres
        n = len(c)
        i, j, k = (x.ravel() for x in np.meshgrid(*[np.arange(n)] * 3, indexing="ij"))
        keep = (i != j) & (j != k)
        self.i, self.j, self.k = i[keep], j[keep], k[keep]
        self.u = c[self.j] - c[self.i]
        self.w = c[self.k] - c[self.j]
        ok = (np.abs(self.u) > 1e-6) & (np.abs(self.w) > 1e-6)
        self.i, self.j, self.k, self.u, self.w = (x[ok] for x in (self.i, self.j, self.k, self.u, self.w))
        self.uu, self.ww = np.abs(self.u), np.abs(self.w)
        # lengths of ways around the block
        nodes = np.concatenate([self.before, _CORNERS])
        d = np.abs(nodes[:, None] - nodes[None])
        d[_blocked(nodes[:, None], nodes[None], _MARGIN)] = np.inf
        for m in range(len(nodes)):
            d = np.minimum(d, d[:, m, None] + d[None, m, :])
        self.nodes = nodes
        self.ways = d
        self.sign = np.sign(self.lever)
        self.per_turn = INERTIA / np.abs(self.lever)   # px of push per rad
        self.effect = np.hypot(1, _HALF_TURN_RADIUS * self.lever / INERTIA)

    def start_ways(self, agent: complex, allowed: Array) -> Array:
        """length from agent to each node (via nodes)."""
        d = np.abs(self.nodes - agent)
        d[_blocked(np.array(agent), self.nodes, _MARGIN)] = np.inf
        d[~allowed] = np.inf
        return d

    def solve(self, p: complex, delta: float, first: Array, tol: float, place, turn):
        """first: steps from agent to each contact"""
        e = np.exp(1j * delta)
        c = self.centres
        q = p - c[self.i] + e * c[self.k]
        cos = (np.abs(q) ** 2 - self.uu**2 - self.ww**2) / (2 * self.uu * self.ww)
        ok = np.flatnonzero((np.abs(cos) <= 1))
        phi = np.arccos(cos[ok])
        phi = np.concatenate([phi, -phi])
        ok = np.concatenate([ok, ok])
        q, u, w = q[ok], self.u[ok], self.w[ok]
        a = q / (u + u * (self.ww / self.uu)[ok] * np.exp(1j * phi))
        a /= np.abs(a)
        b = (q - a * u) / w
        idx = np.stack([self.i[ok], self.j[ok], self.k[ok]])
        turns = np.angle(np.stack([a, b / a, e / b])) * self.sign[idx]
        length = turns * self.per_turn[idx]
        effect = length * self.effect[idx]
        full = 2 * np.pi * self.per_turn[idx]
        length = np.where(effect < -tol, length + full, length)
        active = (length * self.effect[idx]) > tol
        length = np.where(active, length, 0.0)
        good = np.all(length < 500, axis=0) & active.any(axis=0)
        idx, length, active = idx[:, good], length[:, good], active[:, good]
        walk = self.ways[: len(c), : len(c)] / _WALK_SPEED + _CHANGE
        a1, a2, a3 = active
        i, j, k = idx
        cost = (length / _PUSH_SPEED).sum(0)
        cost += np.where(a1, first[i], np.where(a2, first[j], first[k]))
        cost += np.where(a1 & a2, walk[i, j], 0) + np.where(a2 & a3, walk[j, k], 0)
        cost += np.where(a1 & ~a2 & a3, walk[i, k], 0)
        order = np.argsort(cost)
        for part in range(0, min(len(order), 4000), 250):
            sel = order[part : part + 250]
            if not np.isfinite(cost[sel[0]]):
                break
            fine = self.possible(idx[:, sel], length[:, sel], place, turn)
            if fine.any():
                best = sel[np.argmax(fine)]
                at = int(np.argmax(active[:, best]))
                return int(idx[at, best]), float(length[at, best]), float(cost[best])
        return None

    def possible(self, idx, length, place, turn):
        """No wall in the way of the block or of the agent"""
        fine = np.ones(idx.shape[1], dtype=bool)
        place, turn = np.full(idx.shape[1], place), np.full(idx.shape[1], turn)
        least = min(_WALL, self._room(place[:1], turn[:1])[0]) - 0.5
        for at in range(3):
            s, l = idx[at], length[at]
            on = l > 0
            for fraction in (0.0, 0.5, 1.0):
                pl, tu = self.moved(place, turn, s, l * fraction)
                agent = pl + tu * self.touch[s]
                fine &= ~on | ((np.minimum(agent.real, agent.imag) > 2) & (np.maximum(agent.real, agent.imag) < WORKSPACE - 2))
                fine &= self._room(pl, tu) > least
                if fraction == 0.0:
                    agent = pl + tu * self.before[s]
                    fine &= ~on | ((np.minimum(agent.real, agent.imag) > 2) & (np.maximum(agent.real, agent.imag) < WORKSPACE - 2))
            place, turn = pl, tu
        return fine

    def _room(self, place, turn):
        v = place[:, None] + turn[:, None] * _OUTLINE
        return np.minimum(np.minimum(v.real, v.imag), WORKSPACE - 1 - np.maximum(v.real, v.imag)).min(1)

    def moved(self, place, turn, contact, length):
        e = np.exp(1j * length / self.per_turn[contact] * self.sign[contact])
        c = self.centres[contact]
        return place + turn * (c - e * c), turn * e


class PushtExpert:
    """Pushes the block to the goal."""

    def __init__(self) -> None:
        self._planner = Planner()
        x, y, angle = GOAL_POSE
        self._goal_turn = np.exp(1j * angle)
        self._goal = complex(x, y) + self._goal_turn * CENTRE_OF_MASS

    def reset(self, env: gym.Env, seed: int) -> None:
        self._last = None

    def act(self, env: gym.Env, observation: Observation) -> Array:
        pl = self._planner
        agent_world = complex(*observation["agent_pos"].astype(float))
        points = observation["environment_state"].astype(float).reshape(8, 2)
        place, turn = block_pose(points[:, 0] + 1j * points[:, 1])
        agent = (agent_world - place) / turn
        p = (self._goal - place) / turn
        delta = float(np.angle(self._goal_turn / turn))

        # ways
        offset = (agent - pl.touch) / pl.normals   # real: into the face, imag: along
        corridor = (np.abs(offset.imag) < _LATERAL) & (offset.real < 3.0) & (offset.real > -GAP - 4.0)
        nodes_world = place + turn * pl.nodes
        allowed = (np.minimum(nodes_world.real, nodes_world.imag) > 0) & (np.maximum(nodes_world.real, nodes_world.imag) < WORKSPACE)
        start = agent
        inside = bool(_blocked(np.array(agent), np.array(agent), _MARGIN))
        if inside:
            for _ in range(3):
                near = _nearest(start)
                way = start - near
                if abs(way) < 1e-6:
                    break
                start = near + way / abs(way) * CLEARANCE
                if not _blocked(np.array(start), np.array(start), _MARGIN):
                    break
        leg = pl.start_ways(start, allowed)
        n = len(pl.points)
        total = (leg[:, None] + pl.ways[:, :n])
        via = np.argmin(total, axis=0)
        length = total[via, np.arange(n)] + abs(start - agent)
        first = np.where(corridor, 0.0, length / _WALK_SPEED + _CHANGE)
        if self._last is not None:
            first[self._last] -= _CHANGE / 2
        tol = _NEGLIGIBLE
        for _ in range(5):
            plan = pl.solve(p, delta, first, tol, place, turn)
            if plan is not None:
                break
            tol /= 2
        self.plan = plan
        if plan is None:
            return observation["agent_pos"].copy()
        contact, todo, _ = plan
        self._last = contact
        if corridor[contact]:
            self.mode = "push"
            pl2, tu2 = pl.moved(place, turn, contact, min(todo, _PUSH_LEAD))
            target = pl2 + tu2 * pl.touch[contact]
        elif inside:
            self.mode = "escape"
            way = start - agent
            target = agent + way / abs(way) * max(abs(way), 20.0)
            target = place + turn * target
        else:
            self.mode = "walk"
            path = [agent, pl.nodes[via[contact]]]
            at = int(via[contact])
            while at != contact:
                # next node on the way
                direct = np.abs(pl.nodes - pl.nodes[at])
                direct[_blocked(pl.nodes[at], pl.nodes, _MARGIN)] = np.inf
                direct[at] = np.inf
                at = int(np.argmin(direct + pl.ways[:, contact]))
                path.append(pl.nodes[at])
            lead = _WALK_LEAD
            while True:
                target = along(path, lead)
                if lead < 2 or not _blocked(np.array(agent), np.array(target), _MARGIN):
                    break
                lead *= 0.8
            target = place + turn * target
        box = np.array([target.real, target.imag])
        return np.clip(box, 0, WORKSPACE).astype(np.float32)


def along(path, length):
    for a, b in itertools.pairwise(path):
        d = abs(b - a)
        if d >= length:
            return a + (b - a) * length / d
        length -= d
    return path[-1]


_MEAN = _OUTLINE.mean()


def block_pose(points):
    """Return centre of mass and rotation from the keypoints"""
    centred, model = points - points.mean(), _OUTLINE - _MEAN
    turn = (model.conj() * centred).sum()
    turn /= abs(turn)
    return points.mean() - turn * _MEAN, turn
