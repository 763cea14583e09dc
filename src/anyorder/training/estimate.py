"""How long a run will decode camera frames that do not fit in memory, and the setting that mends it."""

import math
import time
from dataclasses import dataclass

import torch

from anyorder.bars import duration
from anyorder.datasets.read.cameras import GIB, Cameras, cache_budget, free_memory
from anyorder.datasets.read.chunks import ActionChunks
from anyorder.training.batches import StepBatches
from anyorder.training.config import TrainConfig

TIMED_S, TIMED_ROWS = 2.0, 16
"""Seconds, and chunks, that are spent on timing."""
IN_ORDER = 32
"""Frames decoded in order, as when all are brought into memory."""
WORTH_TELLING_S = 60.0
LEAST_SIDE = 32
"""Pixels; smaller pictures are not proposed."""
SPARE = 0.8
"""Share of the free memory that may be proposed for frames."""


@dataclass(frozen=True)
class Decoding:
    """Seconds to decode a chunk drawn at random, of all cameras and moments, and a frame of one camera, in order."""

    chunk_s: float
    frame_s: float


def foretell(source: StepBatches, start: int, held_out: ActionChunks, config: TrainConfig) -> str | None:
    """Say how long a run from step ``start`` will take to decode frames on the fly, and which setting spares that.

    Returns None where frames are in memory or decoding takes less than a minute.
    """
    cameras = source.chunks.cameras
    if cameras is None or cameras.cache:
        return None
    cost = measure(source, start)
    validations = math.ceil((config.steps - start) / config.eval_freq)
    scored = min(config.eval_chunks, held_out.frames) * validations
    parallel = max(1, config.dataset.workers)
    seconds = ((config.steps - start) * config.batch_size / parallel + scored) * cost.chunk_s
    if seconds < WORTH_TELLING_S:
        return None
    return describe(cameras, seconds, cost.frame_s, config.dataset.cache_gb, free_memory())


def measure(source: StepBatches, step: int) -> Decoding:
    """Time the decoding of some chunks of a step's batch, and of some frames in order."""
    rows = source.order.rows(step)
    source.chunks.batch(rows[:1], raw=True)  # what is imported and opened once does not count
    began, count = time.perf_counter(), 0
    for row in rows[1 : TIMED_ROWS + 1].tolist() or rows[:1].tolist():
        source.chunks.batch([row], raw=True)
        count += 1
        if time.perf_counter() - began > TIMED_S:
            break
    chunk_s = (time.perf_counter() - began) / count
    assert source.chunks.cameras is not None
    reader = next(reader for reader in source.chunks.cameras.readers if reader.keys)
    block = torch.arange(min(IN_ORDER, len(reader)))
    began = time.perf_counter()
    reader.read(reader.keys[0], block)
    return Decoding(chunk_s, (time.perf_counter() - began) / len(block))


def describe(cameras: Cameras, seconds: float, frame_s: float, cache_gb: float | None, free: float) -> str:
    """Return the line of ``foretell``: decoding on the fly takes ``seconds``, and ``free`` bytes of memory are left."""
    budget = cache_budget(cache_gb)
    frames = len(cameras.shapes) * len(cameras)
    told = (
        f"camera frames take {cameras.bytes / GIB:.3g} GiB and do not fit in the {budget / GIB:.3g} GiB for them, so "
        f"they are decoded while training: about {duration(seconds)} for this run"
    )
    once = f"they fit in memory and take about {duration(frames * frame_s)} to decode once"
    if cameras.bytes < SPARE * free:
        return f"{told}; with dataset.cache_gb={math.ceil(10 * cameras.bytes / GIB) / 10:g} {once}"
    size = fitting_size(cameras, budget if cache_gb is None else free / 2)
    if size is None:
        return f"{told}; dataset.workers=N decodes in N processes"
    unset = "" if cache_gb is None else " dataset.cache_gb=null"
    return f"{told}; with dataset.image_size=[{size[0]},{size[1]}]{unset} {once}"


def fitting_size(cameras: Cameras, budget: float) -> tuple[int, int] | None:
    """Return the largest half, third, ... of the frames' height and width with which they fit, None if too small.

    Where cameras differ in size, the smallest of them is divided.
    """
    height = min(shape[1] for shape in cameras.shapes.values())
    width = min(shape[2] for shape in cameras.shapes.values())
    count = sum(shape[0] for shape in cameras.shapes.values()) * len(cameras)
    for divisor in range(1, min(height, width) // LEAST_SIDE + 1):
        size = height // divisor, width // divisor
        if count * size[0] * size[1] <= budget and size[0] * size[1] * count < cameras.bytes:
            return size
    return None
