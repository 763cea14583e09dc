"""The order in which training visits a dataset's frames."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.named import DATASET_INDEX


def seeded(device: torch.device | str, *key: int) -> torch.Generator:
    """Return a generator whose stream is a function of the key, well mixed."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))


class BatchOrder:
    """Which frames a step sees, as a function of (seed, step) alone, so that resuming is exact.

    Epoch e visits every frame once, in an order drawn from (seed, e); batches run on across epochs.
    """

    def __init__(self, frames: int, batch_size: int, seed: int) -> None:
        self.frames, self.batch_size, self.seed = frames, batch_size, seed
        self._drawn: dict[int, Tensor] = {}

    def rows(self, step: int) -> Tensor:
        """Return the frames of a step, counted from 0: (batch size,) int64."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = places // self.frames
        rows = [self._epoch(int(e))[places[epochs == e] % self.frames] for e in epochs.unique()]
        return torch.cat(rows)

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._drawn:
            drawn = torch.randperm(self.frames, generator=seeded("cpu", self.seed, 1, epoch))
            # The last two are kept, as a batch may lie in both.
            self._drawn = {**dict(list(self._drawn.items())[-1:]), epoch: drawn}
        return self._drawn[epoch]


class MixtureOrder:
    """Which frames of a mixture a step sees, as a function of (seed, step) alone.

    Every sample is drawn on its own: first its dataset, in proportion to the weights, then one of its frames.

    ``dataset`` (frames,) int64 is each frame's dataset, in order; ``weights`` has one number a dataset.
    """

    def __init__(self, dataset: Tensor, weights: Sequence[float], batch_size: int, seed: int) -> None:
        self.frames = torch.bincount(dataset.cpu(), minlength=len(weights))
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.batch_size, self.seed = batch_size, seed

    def rows(self, step: int) -> Tensor:
        """Return the frames of a step, counted from 0: (batch size,) int64."""
        generator = seeded("cpu", self.seed, 1, step)
        drawn = torch.multinomial(self.weights, self.batch_size, replacement=True, generator=generator)
        place = torch.rand(self.batch_size, dtype=torch.float64, generator=generator)
        return (self.frames.cumsum(0) - self.frames)[drawn] + (place * self.frames[drawn]).long()


def batch_order(chunks: ActionChunks, batch_size: int, seed: int) -> BatchOrder | MixtureOrder:
    """Return the order in which training visits the chunks."""
    if chunks.weights:
        return MixtureOrder(chunks.columns[DATASET_INDEX], chunks.weights, batch_size, seed)
    return BatchOrder(chunks.frames, batch_size, seed)
