"""Normalization as data inside the policy: exact ranges, clipped, harmless for constant dimensions."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.precision import Precise
from anyorder.weights import Rule

Statistics = Mapping[str, np.ndarray]
"""Per-dimension arrays of one feature by name: ``mean``, ``std``, ``min``, ``max``, ``q01``, ``q99``."""

STANDARDIZED_LIMIT = 10.0
"""Normalization by mean and standard deviation clips at this many deviations; ranges clip at 1."""

LARGEST = 1e20
"""No range reaches further: nanoseconds since 1970, the largest unit in use, are 2e18."""


def limit_of(mode: NormalizationMode) -> float:
    """Return the largest absolute value that a mode gives: where it clips, infinity where it does not.

    >>> limit_of(NormalizationMode.MIN_MAX), limit_of(NormalizationMode.MEAN_STD), limit_of(NormalizationMode.IDENTITY)
    (1.0, 10.0, inf)
    """
    if mode is NormalizationMode.IDENTITY:
        return float("inf")
    return STANDARDIZED_LIMIT if mode is NormalizationMode.MEAN_STD else 1.0


class Normalizer(Precise):
    """Maps one feature to ``clip((x - center) / radius)`` and back.

    MIN_MAX and QUANTILES map the range onto [-1, 1] and clip there; MEAN_STD clips at 10 standard deviations;
    IDENTITY passes values through, up to a limit where one is set (``ActionCodec.fit`` does for actions). It stays
    float32 where a policy is cast: in bfloat16 a unit of the robot is lost in 200.
    A dimension that (almost) never changed has ``radius`` 0: it normalizes to 0 and
    comes back as its constant, instead of blowing tiny noise up.

    >>> statistics = {"min": np.array([0.0, 5.0]), "max": np.array([4.0, 5.0])}
    >>> normalizer = Normalizer(2).fit(statistics, NormalizationMode.MIN_MAX)
    >>> y = normalizer(torch.tensor([[1.0, 5.1], [9.0, 5.0]]))
    >>> y.tolist(), normalizer.inverse(y).tolist()
    ([[-0.5, 0.0], [1.0, 0.0]], [[1.0, 5.0], [4.0, 5.0]])
    """

    center: Tensor
    radius: Tensor
    limit: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("radius", torch.ones(size))
        self.register_buffer("limit", torch.tensor(float("inf")))

    def fit(self, statistics: Statistics, mode: NormalizationMode) -> "Normalizer":
        """Take center and radius from the feature's exact statistics."""
        if mode is NormalizationMode.IDENTITY:
            return self
        if mode is NormalizationMode.MEAN_STD:
            center, radius = statistics["mean"], statistics["std"]
        elif mode in RANGES:
            low, high = (statistics[name] for name in RANGES[mode])
            center, radius = (high + low) / 2, (high - low) / 2
        else:
            allowed = ", ".join(m.value for m in (*RANGES, NormalizationMode.MEAN_STD, NormalizationMode.IDENTITY))
            raise ConfigError("normalization_mapping", mode.value, allowed)
        still = radius <= 1e-6 * np.maximum(1.0, np.abs(center))
        self.center.copy_(torch.as_tensor(center))
        self.radius.copy_(torch.as_tensor(np.where(still, 0.0, radius)))
        self.limit.fill_(limit_of(mode))
        return self

    def rules(self) -> Iterator[Rule]:
        """Say what the ranges may be: within ``limit`` everything comes back as a finite number."""
        within = (self.limit >= 0) & ((self.limit <= LARGEST) | self.limit.isinf())
        yield Rule("limit", self.limit, within, f"a number from 0 to {LARGEST:g}, or infinity")
        yield Rule("radius", self.radius, self.radius >= 0, "numbers >= 0")
        if bool(self.limit.isinf()):
            yield Rule("radius", self.radius, self.radius == 1, "1, as values pass through")
            yield Rule("center", self.center, self.center == 0, "0, as values pass through")
        else:
            reach = self.center.abs() + self.limit * self.radius
            yield Rule("center", self.center, reach <= LARGEST, f"a range within +-{LARGEST:g}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (..., size)."""
        width = torch.where(self.radius > 0, self.radius, torch.inf)
        return ((x - self.center) / width).clamp(-self.limit, self.limit)

    def inverse(self, y: Tensor) -> Tensor:
        """Undo it for y (..., size) within the limit."""
        return y * self.radius + self.center


RANGES = {NormalizationMode.MIN_MAX: ("min", "max"), NormalizationMode.QUANTILES: ("q01", "q99")}
