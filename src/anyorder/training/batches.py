"""Batches ready before a step asks for them."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from anyorder.datasets.read.chunks import ActionChunks, Batch
from anyorder.errors import DatasetError, UserError
from anyorder.processes import ctrl_c_is_ours, end_with_parent
from anyorder.training.order import BatchOrder, MixtureOrder

AHEAD = 3
"""Batches that a thread prepares ahead; of worker processes, each prepares two."""


@dataclass(frozen=True)
class StepBatches(Dataset[Batch]):
    """The batch of every step, a function of the step alone: who computes it, and when, changes nothing.

    Attributes:
        chunks: what to draw from; camera frames stay uint8.
        order: which rows a step sees.
        part: which slice of them this process takes.
    """

    chunks: ActionChunks
    order: BatchOrder | MixtureOrder
    part: slice

    def __getitem__(self, step: int) -> Batch:
        # A chunk gathered in memory is ready at once; only what is decoded has to be prepared ahead.
        rows = self.order.rows(step)[self.part]
        return self.chunks.batch(rows.to(self.chunks.ends.device), raw=True)


class TimedBatches:
    """Iterator over the batches of steps that counts the seconds it kept its caller waiting."""

    def __init__(self, batches: Iterator[Batch], device: torch.device) -> None:
        self._batches = batches
        self._device = device
        self.waited_s = 0.0

    def __next__(self) -> Batch:
        start = time.perf_counter()
        batch = {key: move(value, self._device) for key, value in next(self._batches).items()}
        self.waited_s += time.perf_counter() - start
        return batch

    def take_waited_s(self) -> float:
        """Return the seconds waited and start counting afresh."""
        waited, self.waited_s = self.waited_s, 0.0
        return waited


@contextmanager
def batches_of(
    source: StepBatches, start: int, stop: int, workers: int, device: torch.device
) -> Iterator[TimedBatches]:
    """Give the batches of steps ``start`` ... ``stop`` - 1 in order.

    Low-dimensional chunks and cached frames are gathered when asked for: that takes microseconds. Frames that must be
    decoded are prepared while the model trains: by a thread of this process (decoding leaves Python's lock alone), or
    by ``workers`` processes where that is not 0.
    """
    steps = range(start, stop)
    cameras = source.chunks.cameras
    if cameras is None or cameras.cache:
        yield TimedBatches((source[step] for step in steps), device)
    elif workers:
        loader: DataLoader[Batch] = DataLoader(
            source,
            batch_size=None,
            sampler=steps,
            num_workers=workers,
            multiprocessing_context="spawn",
            worker_init_fn=worker_begins,
        )
        with ctrl_c_is_ours():
            batches = iter(loader)
        yield TimedBatches(from_workers(batches, workers), device)
    else:
        pool = ThreadPoolExecutor(1, "frames")
        try:
            yield TimedBatches(ahead(pool, source, steps), device)
        finally:
            pool.shutdown(cancel_futures=True)


def worker_begins(worker: int) -> None:
    """Do what comes first in a process that decodes."""
    end_with_parent()


def from_workers(batches: Iterator[Batch], workers: int) -> Iterator[Batch]:
    """Give the batches of worker processes; what goes wrong there is one line here.

    Raises:
        UserError: a worker's, whose message comes with a traceback around it.
        DatasetError: a worker has died.
    """
    try:
        yield from batches
    except UserError as error:
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        allowed = f"workers that live, or 0 ({str(error).splitlines()[0]})"
        raise DatasetError("dataset.workers", workers, allowed) from error


def ahead(pool: ThreadPoolExecutor, source: StepBatches, steps: range) -> Iterator[Batch]:
    """Give batches in order while ``AHEAD`` more are prepared."""
    waiting: deque[Future[Batch]] = deque()
    for step in steps:
        waiting.append(pool.submit(source.__getitem__, step))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def move(value: Any, device: torch.device) -> Any:
    """Move a tensor; sentences stay."""
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
