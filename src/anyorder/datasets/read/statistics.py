"""Exact statistics of a dataset, from its values.

LeRobot 0.6.1 stores as ``q01`` and ``q99`` the frame-weighted mean of every episode's own quantile. Where
episodes differ, that lies far inside the data (on random walks a quarter of the values leave the range), so
normalization must not use it; mean, std, min and max agree with what is computed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.errors import DatasetError

QUANTILES = (0.01, 0.99)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """Of one feature over frames; every array is float64 of the feature's shape.

    ``std`` is the population's (divided by the count), as in LeRobot. ``quantiles[q]`` interpolates linearly
    between order statistics.
    """

    count: int
    mean: Array
    std: Array
    min: Array
    max: Array
    quantiles: dict[float, Array]

    @classmethod
    def of(cls, values: Array, quantiles: Sequence[float] = QUANTILES) -> Self:
        """Compute them from ``values`` (frames, *shape).

        >>> statistics = Statistics.of(np.array([[0.0], [1.0], [2.0], [3.0]]), quantiles=[0.5])
        >>> float(statistics.mean[0]), float(statistics.quantiles[0.5][0])
        (1.5, 1.5)
        """
        for quantile in quantiles:
            if not 0 <= quantile <= 1:
                raise DatasetError("quantile", quantile, "a number in [0, 1]")
        if len(values) == 0:
            raise DatasetError("frames", 0, "at least one frame to compute statistics of")
        exact = values.astype(np.float64)
        found = np.quantile(exact, list(quantiles), axis=0) if quantiles else []
        return cls(
            count=len(exact),
            mean=exact.mean(axis=0),
            std=exact.std(axis=0),
            min=exact.min(axis=0),
            max=exact.max(axis=0),
            quantiles=dict(zip(map(float, quantiles), found, strict=True)),
        )

    @property
    def q01(self) -> Array:
        """Return the 1 % quantile."""
        return self.quantiles[0.01]

    @property
    def q99(self) -> Array:
        """Return the 99 % quantile."""
        return self.quantiles[0.99]

    @property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Return which dimensions never change, bool."""
        return np.equal(self.min, self.max)

    def as_lerobot(self) -> dict[str, Array]:
        """Return them under LeRobot's names (``q01`` for the quantile 0.01), for its normalizers."""
        named = {f"q{round(100 * q):02d}": values for q, values in self.quantiles.items()}
        rest = {"mean": self.mean, "std": self.std, "min": self.min, "max": self.max}
        return {**rest, "count": np.array([self.count]), **named}


def compute_statistics(chunks: ActionChunks, quantiles: Sequence[float] = QUANTILES) -> dict[str, Statistics]:
    """Compute the statistics of every numeric feature over the frames of ``chunks``, each counted once."""
    return {key: Statistics.of(chunks.columns[key].cpu().numpy(), quantiles) for key in chunks.names}
