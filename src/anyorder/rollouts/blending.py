"""One chunk into the next without a jump: their overlap is blended linearly."""

from copy import deepcopy
from typing import Any


def blended[Array](chunk: Array, former: Array, steps: int) -> Array:
    """Return a chunk whose first actions move linearly from the rest of the former chunk to its own.

    Formula: action i of the first n is ``(1 - w) former[i] + w chunk[i]`` with ``w = (i + 1) / (n + 1)``.

    Args:
        chunk: arrays or tensors (..., time steps, action size), raw actions.
        former: what the chunk before had for the times from the first step on, at least ``steps`` of them.
        steps: n; 0 leaves the chunk as it is.

    >>> import numpy as np
    >>> blended(np.array([[4.0], [4.0], [4.0]]), np.array([[1.0], [1.0]]), 2)
    array([[2.],
           [3.],
           [4.]])
    """
    mixed: Any = deepcopy(chunk)
    before: Any = former
    for i in range(steps):
        mixed[..., i, :] = (before[..., i, :] * (steps - i) + mixed[..., i, :] * (i + 1)) / (steps + 1)
    return mixed
