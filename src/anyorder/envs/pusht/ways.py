"""Ways of PushT's agent around the block, in the block's frame: shortest paths past its outer corners."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from anyorder.envs.pusht.env import WORKSPACE
from anyorder.envs.pusht.planner import BOXES, CLEARANCE, Pose
from anyorder.envs.simulator import Array

_MARGIN = CLEARANCE - 2.0
"""Lines that come nearer than this (px) to the block are blocked."""
_TOO_NEAR = CLEARANCE - 4.0
"""Agents nearer than this leave the block before they walk."""
_BORDER = 2.0
"""Paths stay this far (px) inside of the table."""


def _outer_corners() -> Array:
    """Return the block's six convex corners, ``CLEARANCE`` farther out in x and y."""
    (left, right, top, bottom), (stem_left, stem_right, _, end) = BOXES
    corners = [*itertools.product((left, right), (top, bottom)), (stem_left, end), (stem_right, end)]
    outwards = [complex(np.sign(x), -1.0 if y == top else 1.0) for x, y in corners]
    return np.array([complex(*corner) for corner in corners]) + CLEARANCE * np.array(outwards)


_CORNERS = _outer_corners()


def blocked(start: Any, end: Any, margin: float = _MARGIN) -> Array:
    """Tell which of the lines from ``start`` to ``end`` come too near to bar or stem (square corners)."""
    start, end = np.broadcast_arrays(start, end)
    hit = np.zeros(start.shape, dtype=bool)
    for left, right, top, bottom in BOXES:
        enter, leave = np.zeros(start.shape), np.ones(start.shape)
        for low, high, origin, goal in ((left, right, start.real, end.real), (top, bottom, start.imag, end.imag)):
            way = np.where(np.abs(goal - origin) < 1e-9, 1e-9, goal - origin)
            one, two = (low - margin - origin) / way, (high + margin - origin) / way
            enter, leave = np.maximum(enter, np.minimum(one, two)), np.minimum(leave, np.maximum(one, two))
        hit |= enter < leave
    return hit


def near_block(point: complex) -> bool:
    """Tell whether the agent is too near to the block for walking."""
    return bool(blocked(point, point, _TOO_NEAR))


def nearest_free(point: complex) -> complex:
    """Return a place near ``point`` from which the agent may walk, ``point`` itself if it is one.

    It lies straight off the nearest face; in an inner corner off both.
    """
    for _ in range(8):
        if not blocked(point, point):
            break
        faces = [
            complex(np.clip(point.real, left, right), np.clip(point.imag, top, bottom))
            for left, right, top, bottom in BOXES
        ]
        face = min(faces, key=lambda face: abs(point - face))
        # An episode may start with the agent inside of the block: then away from the center of mass.
        away = (point - face) or point or 1j
        point = face + away / max(abs(away.real), abs(away.imag)) * CLEARANCE
    return point


@dataclass(frozen=True)
class Routes:
    """Shortest paths from ``start``; ``lengths`` (ends,) are infinite where there is none."""

    start: complex
    ends: Array
    lengths: Array
    corner_lengths: Array
    """(corners, ends), from each corner to each end."""

    def path(self, end: int) -> list[complex]:
        """Return the places to pass from ``start`` to the end of this index, both included."""
        at, places = self.start, [self.start]
        for _ in _CORNERS:
            lengths = _straight(at, _CORNERS) + self.corner_lengths[:, end]
            lengths[at == _CORNERS] = np.inf
            if _straight(at, self.ends[end]) <= lengths.min():
                break
            at = complex(_CORNERS[lengths.argmin()])
            places.append(at)
        return [*places, complex(self.ends[end])]


class Ways:
    """Shortest paths to ``ends`` (ends,), places just off the block.

    ``between`` (ends, ends) are the lengths of the paths between them in px, the table's border left aside.
    """

    def __init__(self, ends: Array) -> None:
        self._ends = ends
        self._sides = _straight(_CORNERS[:, None], _CORNERS)
        self._last = _straight(_CORNERS[:, None], ends)
        anywhere = np.zeros(len(_CORNERS))
        self.between = np.stack([self._routes(end, anywhere).lengths for end in ends])

    def routes(self, start: complex, pose: Pose) -> Routes:
        """Return the shortest paths from ``start`` that stay on the table, the block being at ``pose``."""
        world = pose.to_world(_CORNERS) - complex(1, 1) * WORKSPACE / 2
        off = np.maximum(np.abs(world.real), np.abs(world.imag)) > WORKSPACE / 2 - _BORDER
        return self._routes(start, np.where(off, np.inf, 0.0))

    def _routes(self, start: complex, cost: Array) -> Routes:
        """Return the shortest paths if passing a corner has this ``cost`` (corners,)."""
        sides, lengths = self._sides + cost[:, None], self._last + cost[:, None]
        for _ in _CORNERS:
            lengths = np.minimum(lengths, (sides[:, :, None] + lengths).min(axis=1))
        first = _straight(start, _CORNERS)[:, None] + lengths
        return Routes(start, self._ends, np.minimum(_straight(start, self._ends), first.min(axis=0)), lengths)


def ahead(path: list[complex], lead: float) -> complex:
    """Return the place ``lead`` px ahead on ``path``, less if the straight line to there is blocked."""
    while True:
        place, left = path[-1], lead
        for one, two in itertools.pairwise(path):
            if abs(two - one) > left:
                place = one + (two - one) / abs(two - one) * left
                break
            left -= abs(two - one)
        if lead < 1.0 or not blocked(path[0], place):
            return place
        lead *= 0.8


def _straight(start: Any, end: Any) -> Array:
    """Return the lengths of straight lines, infinite where they are blocked."""
    return np.where(blocked(start, end), np.inf, np.abs(np.asarray(start) - end))
