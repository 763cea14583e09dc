"""LeRobot datasets in and out: recording experts, fast chunk batches, exact statistics."""

from anyorder.datasets.chunks import ActionChunks, Batch
from anyorder.datasets.mixture import mix
from anyorder.datasets.origin import Origin
from anyorder.datasets.recording import Recording, record
from anyorder.datasets.statistics import Statistics, compute_statistics

__all__ = [
    "ActionChunks",
    "Batch",
    "Origin",
    "Recording",
    "Statistics",
    "compute_statistics",
    "mix",
    "record",
]
