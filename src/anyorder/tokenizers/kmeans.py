"""Codebooks: k-means, and nearest codes."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from anyorder.factorization.precision import widen
from anyorder.weights import Rule

LARGEST = 1e6
"""No number that is fitted to chunks in [-1, 1] is as large; sums and products of such numbers stay finite."""
ITERATIONS = 25
"""Lloyd's algorithm takes at most this many steps."""


def kmeans(points: Tensor, codes: int, seed: int) -> Tensor:
    """Return ``codes`` centroids of points (count, size), Lloyd's algorithm; the same ones for the same seed.

    Starts from points drawn far from the earlier ones (k-means++); a centroid nobody is nearest to moves to the point
    that is worst served. With fewer distinct points than codes, some centroids coincide.

    >>> kmeans(torch.tensor([[0.0], [0.2], [5.0]]), 2, seed=0).flatten().sort().values
    tensor([0.1000, 5.0000])
    """
    generator = torch.Generator().manual_seed(seed)
    points = points.double()
    centroids = points[torch.randint(len(points), (1,), generator=generator)]
    distance = (points - centroids).square().sum(1)
    for _ in range(codes - 1):
        weight = distance if float(distance.sum()) > 0 else torch.ones_like(distance)
        chosen = points[torch.multinomial(weight, 1, generator=generator)]
        centroids = torch.cat([centroids, chosen])
        distance = torch.minimum(distance, (points - chosen).square().sum(1))
    for _ in range(ITERATIONS):
        nearest = nearest_code(points, centroids)
        count = torch.bincount(nearest, minlength=codes)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        moved = torch.where(count.unsqueeze(1) > 0, sums / count.clamp_min(1).unsqueeze(1), centroids)
        empty = (count == 0).nonzero().flatten()
        if len(empty):
            error = (points - moved[nearest]).square().sum(1)
            worst = error.argsort(descending=True)[: len(empty)]
            moved[empty[: len(worst)]] = points[worst]
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids.float()


def nearest_code(points: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest code of points (count, size) in a codebook (codes, size): (count,)."""
    book = widen(codebook)
    distance = book.square().sum(1) - 2 * widen(points) @ book.T
    return distance.argmin(1)


class FloatBuffers(nn.Module):
    """Keeps float32 tables as the integers of their bits, so that casting a policy to bfloat16 changes no code."""

    def put(self, name: str, table: Tensor) -> None:
        """Register, or fill, the table ``name``."""
        bits = table.detach().float().contiguous().view(torch.int32)
        if name in self._buffers:
            self.get_buffer(name).copy_(bits)
        else:
            self.register_buffer(name, bits)

    def rules(self) -> Iterator[Rule]:
        """Say what a table may hold."""
        for name in self._buffers:
            table = self.get(name)
            yield Rule(name, table, table.abs() <= LARGEST, f"finite numbers up to {LARGEST:g} in size")

    def get(self, name: str) -> Tensor:
        """Return the table ``name``, float32."""
        return self.get_buffer(name).view(torch.float32)
