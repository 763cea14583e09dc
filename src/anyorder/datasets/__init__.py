"""LeRobot datasets in and out: recording experts, fast chunk batches, exact statistics."""

from anyorder.datasets.read.chunks import ActionChunks, Batch
from anyorder.datasets.read.mixture import mix
from anyorder.datasets.read.statistics import Statistics, compute_statistics
from anyorder.datasets.write.origin import Origin
from anyorder.datasets.write.recording import Recording, record

__all__ = ["ActionChunks", "Batch", "Origin", "Recording", "Statistics", "compute_statistics", "mix", "record"]
