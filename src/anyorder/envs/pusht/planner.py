"""Plans for PushT in closed form: at most three pushes that bring the block to the goal.

gym-pusht's block stops at once and slides along the agent without friction. A push on a flat face at a fixed
point of it therefore turns the block around a center that is fixed in the block, ``INERTIA / lever`` from its
center of mass (quasi-static pushing as in Lynch and Mason, Stable Pushing, IJRR 15(6), 1996). With rotations as
unit complex numbers, pushes i, j, k with centers c reach the goal's place p and angle E in the block's frame if

    a (c_j - c_i) + b (c_k - c_j) = p - c_i + E c_k,    a = e^{i turn_i},    b = a e^{i turn_j},

the inverse kinematics of a planar arm with two links: two solutions for each triple, all triples at once.

Places are complex numbers x + iy in pixels, in the block's frame (origin at the center of mass) unless said.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from anyorder.envs.pusht.env import BLOCK_KEYPOINTS, GOAL_POSE, WORKSPACE
from anyorder.envs.simulator import Array

CENTER_OF_MASS = 45j
"""The block's center of mass in gym-pusht's frame, whose origin is the middle of the bar's outer edge."""
INERTIA = 3000.0
"""The block's moment of inertia per mass, px^2."""
AGENT_RADIUS = 15.0
WALL = 7.0
"""The inner side of a wall is this far from the border of the workspace, px."""

CLEARANCE = 21.0
"""A walking agent keeps its center this far from the faces of the block, px; at 15 they touch."""
PUSH_SPEED, WALK_SPEED = 6.0, 13.0
"""Plans reckon with these speeds of the agent, px per step."""
CHANGE = 6.0
"""Leaving one contact and settling on another costs this many steps besides the way."""
NEGLIGIBLE = 0.7
"""No push is made for a displacement of the block below this, px; errors of angle count at ``ANGLE_ARM``."""
ANGLE_ARM = 50.0

OUTLINE = np.array([complex(*point) for point in BLOCK_KEYPOINTS]) - CENTER_OF_MASS
BOXES = ((-60.0, 60.0, -45.0, -15.0), (-15.0, 15.0, -15.0, 75.0))
"""The bar and the stem, each by its least and greatest x and its least and greatest y."""
_BATCH = 64


@dataclass(frozen=True)
class Pose:
    """Where the block is in the world: its center of mass and its rotation as a unit complex number."""

    place: complex
    turn: complex

    @classmethod
    def of_keypoints(cls, keypoints: Array) -> "Pose":
        """Fit the pose to the keypoints (8,), complex, in the world."""
        model = OUTLINE - OUTLINE.mean()
        turn = complex(np.vdot(model, keypoints - keypoints.mean()))
        turn /= abs(turn)
        return cls(complex(keypoints.mean()) - turn * complex(OUTLINE.mean()), turn)

    def to_world(self, points: Any) -> Any:
        """Turn places in the block's frame into places in the world."""
        return self.place + self.turn * points

    def to_block(self, points: Any) -> Any:
        """Turn places in the world into places in the block's frame."""
        return (points - self.place) / self.turn


def goal_pose() -> Pose:
    """Return the pose of the outline that the block is to cover."""
    x, y, angle = GOAL_POSE
    turn = complex(np.exp(1j * angle))
    return Pose(complex(x, y) + turn * CENTER_OF_MASS, turn)


@dataclass(frozen=True)
class Push:
    """The next push of a plan: on which contact, how far the agent moves (px), and whether it is the last."""

    contact: int
    length: float
    last: bool


class Contacts:
    """Where the block may be pushed.

    Attributes:
        normals: (contacts,) inward normals of the faces there.
        levers: (contacts,) px of lever around the center of mass.
        touch: (contacts,) the agent's place in contact.
        before: (contacts,) the agent's place before the push.
        centers: (contacts,) what the block turns around.
        radii: (contacts,) px from there to the line along which the agent pushes.
    """

    def __init__(self) -> None:
        # No lever is 0, which would be a turn around infinity; agents in the inner corners touch one face only.
        faces = {
            1j: [complex(x, -45) for x in (-54, -30, -6, 6, 30, 54)],
            -1j: [complex(x, -15) for x in (-54, -38, 38, 54)] + [complex(x, 75) for x in (-8, 8)],
            1: [complex(-60, y) for y in (-38, -22)] + [complex(-15, y) for y in (6, 26, 46, 66)],
            -1: [complex(60, y) for y in (-38, -22)] + [complex(15, y) for y in (6, 26, 46, 66)],
        }
        points = np.array([point for along in faces.values() for point in along])
        self.normals = np.array([normal for normal, along in faces.items() for _ in along], dtype=complex)
        self.levers = (points.conj() * self.normals).imag
        self.touch = points - AGENT_RADIUS * self.normals
        self.before = points - CLEARANCE * self.normals
        self.centers = 1j * self.normals * INERTIA / self.levers
        self.radii = (INERTIA + self.levers**2) / np.abs(self.levers)

    def moved(self, place: Any, turn: Any, contact: Any, length: Any) -> tuple[Any, Any]:
        """Return the block's pose in the world after pushes of ``length`` px of the agent's way."""
        rotation = np.exp(1j * np.sign(self.levers[contact]) * length / self.radii[contact])
        return place + turn * self.centers[contact] * (1 - rotation), turn * rotation


class PushPlanner:
    """Finds the quickest plan of at most three pushes; ``ways`` (contacts, contacts) are px between contacts."""

    def __init__(self, contacts: Contacts, ways: Array) -> None:
        self._contacts = contacts
        self._walk = ways / WALK_SPEED + CHANGE
        self._goal = goal_pose()
        centers, n = contacts.centers, len(contacts.centers)
        triples: Array = np.indices((n, n, n)).reshape(3, -1)
        links = np.abs(np.diff(centers[triples], axis=0))
        triples = triples[:, (links > 1e-6).all(axis=0)]
        self._triples = triples
        self._ends = triples[0] * n + triples[2]
        self._first_link, self._second_link = np.diff(centers[triples], axis=0)
        one, two = np.abs(self._first_link), np.abs(self._second_link)
        self._squares, self._twice_product, self._ratio = one**2 + two**2, 2 * one * two, two / one
        self._signed_radii = np.sign(contacts.levers) * contacts.radii
        # Displacement of the block per px of the agent's way.
        self._effect = np.hypot(INERTIA, ANGLE_ARM * contacts.levers) / (INERTIA + contacts.levers**2)

    def plan(self, pose: Pose, first_walk: Array) -> Push | None:
        """Return the first push of the quickest plan, None if there is none or nothing to be done.

        Args:
            pose: where the block is.
            first_walk: (contacts,) steps until the agent can push there.
        """
        triples, lengths = self._solve(pose)
        negligible = NEGLIGIBLE
        # Near the goal every push may be negligible although the block does not cover enough yet.
        for _ in range(6):
            push = self._quickest(pose, first_walk, triples, lengths, negligible)
            if push is not None:
                return push
            negligible /= 2
        return None

    def _solve(self, pose: Pose) -> tuple[Array, Array]:
        """Return triples of contacts (3, solutions) and how far the agent pushes there, px, hardly below 0."""
        centers = self._contacts.centers
        angle = self._goal.turn / pose.turn
        reach = (pose.to_block(self._goal.place) - centers[:, None] + angle * centers).ravel()
        cosine = ((np.abs(reach) ** 2)[self._ends] - self._squares) / self._twice_product
        found = np.flatnonzero(np.abs(cosine) <= 1)
        elbow = np.exp(1j * np.arccos(cosine[found]))
        elbow, found = np.concatenate([elbow, elbow.conj()]), np.concatenate([found, found])
        target, link = reach[self._ends[found]], self._first_link[found]
        a = target / (link * (1 + self._ratio[found] * elbow))
        b = (target - a * link) / self._second_link[found]
        triples, rotations = self._triples[:, found], [a, b * a.conj(), angle * b.conj()]
        lengths = np.zeros((0, len(found)))
        for at in range(3):
            # A push cannot pull. Most solutions end here, and early; to turn all the way round never pays.
            contact = triples[at]
            length = np.angle(rotations[at]) * self._signed_radii[contact]
            kept = length * self._effect[contact] > -NEGLIGIBLE
            lengths = np.concatenate([lengths, length[None]])[:, kept]
            triples, rotations = triples[:, kept], [rotation[kept] for rotation in rotations]
        return triples, lengths

    def _quickest(
        self, pose: Pose, first_walk: Array, triples: Array, lengths: Array, negligible: float
    ) -> Push | None:
        """Return the first push of the plan of fewest steps; ``negligible`` px of pushing are left out."""
        made = lengths * self._effect[triples] > negligible
        useful = (made.any(axis=0)) & (lengths.max(axis=0) < WORKSPACE)
        useful &= (lengths * self._effect[triples] > -negligible).all(axis=0)
        triples, lengths, made = triples[:, useful], lengths[:, useful] * made[:, useful], made[:, useful]
        (i, j, k), (one, two, three) = triples, made
        steps = lengths.sum(axis=0) / PUSH_SPEED
        steps += np.where(one, first_walk[i], np.where(two, first_walk[j], first_walk[k]))
        steps += (one & two) * self._walk[i, j] + (two & three) * self._walk[j, k]
        steps += (one & ~two & three) * self._walk[i, k]
        order = np.argsort(steps)[: np.isfinite(steps).sum()]
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            free = self._free(pose, triples[:, some], lengths[:, some])
            if free.any():
                best = some[free.argmax()]
                at = int(made[:, best].argmax())
                return Push(int(triples[at, best]), float(lengths[at, best]), bool(made[:, best].sum() == 1))
        return None

    def _free(self, pose: Pose, triples: Array, lengths: Array) -> Array:
        """Tell which plans (plans,) keep the block off the walls and the agent on the table."""
        contacts, count = self._contacts, triples.shape[1]
        place, turn = np.full(count, pose.place), np.full(count, pose.turn)
        least = min(WALL, _room(pose.to_world(OUTLINE)[None])[0]) - 0.5
        free = np.ones(count, dtype=bool)
        for contact, length in zip(triples, lengths, strict=True):
            agents = [place + turn * contacts.before[contact]]
            for part in (0.5, 1.0):
                place_then, turn_then = contacts.moved(place, turn, contact, part * length)
                free &= _room(place_then[:, None] + turn_then[:, None] * OUTLINE) > least
                agents.append(place_then + turn_then * contacts.touch[contact])
            free &= (length == 0) | (_room(np.stack(agents, axis=1)) > 1.0)
            place, turn = place_then, turn_then
        return free


def _room(points: Array) -> Array:
    """Return how far inside of the table the outermost of points (..., points) is, px."""
    outside = np.maximum(np.abs(points.real - WORKSPACE / 2), np.abs(points.imag - WORKSPACE / 2))
    return WORKSPACE / 2 - outside.max(axis=-1)
