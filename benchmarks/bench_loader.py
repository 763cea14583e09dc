"""Samples a second of the chunk loader beside LeRobot's DataLoader, on the same data; prints a Markdown table.

A sample is one frame with its window of the next ``horizon`` actions. Indices are random, as in training. Without
workers, seconds are CPU time of one core, so that other load on the machine does not matter; with workers, wall time.
"""

import argparse
import datetime
import itertools
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch

from anyorder.datasets import ActionChunks

FPS = 50
STATE_SIZE = ACTION_SIZE = 14


def make_dataset(root: Path, episodes: int, frames: int) -> None:
    """Write random walks as a LeRobot dataset: two arms' worth of state and action."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    names = [f"joint{i}" for i in range(STATE_SIZE)]
    features = {
        key: {"dtype": "float32", "shape": (STATE_SIZE,), "names": names} for key in ("observation.state", "action")
    }
    dataset = LeRobotDataset.create("local/bench", FPS, features, root=root, use_videos=False, video_backend="pyav")
    random = np.random.default_rng(0)
    with SuppressProgressBars():
        for _ in range(episodes):
            walk = random.normal(size=(frames + 1, STATE_SIZE)).cumsum(axis=0).astype(np.float32)
            for state, action in itertools.pairwise(walk):
                dataset.add_frame({"observation.state": state, "action": action, "task": "Walk."})
            dataset.save_episode()
        dataset.finalize()


def rate(batches: Iterator[dict], batch_size: int, seconds: float, clock: Callable[[], float]) -> float:
    """Return samples a second, after one batch of warm-up."""
    next(batches)
    count, start = 0, clock()
    while clock() - start < seconds:
        next(batches)
        count += 1
    return count * batch_size / (clock() - start)


def ours(chunks: ActionChunks, batch_size: int) -> Iterator[dict]:
    generator = torch.Generator().manual_seed(0)
    while True:
        for rows in torch.randperm(len(chunks), generator=generator).split(batch_size):
            if len(rows) == batch_size:
                yield chunks.batch(rows)


def lerobots(root: Path, horizon: int, batch_size: int, workers: int) -> Iterator[dict]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / FPS for step in range(horizon)]}
    dataset = LeRobotDataset("local/bench", root=root, delta_timestamps=deltas, video_backend="pyav")
    options = {"batch_size": batch_size, "shuffle": True, "drop_last": True, "num_workers": workers}
    while True:
        yield from torch.utils.data.DataLoader(dataset, **options)


def processor() -> str:
    """Return the processor's name where Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--root", type=Path, help="an existing LeRobot dataset; by default one is generated")
    parser.add_argument("--episodes", type=int, default=20, help="episodes to generate")
    parser.add_argument("--frames", type=int, default=300, help="frames an episode to generate")
    parser.add_argument("--horizons", type=int, nargs="+", default=[1, 16, 50])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="worker counts for LeRobot's DataLoader")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time per cell")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or Path(folder) / "bench"
        if arguments.root is None:
            make_dataset(root, arguments.episodes, arguments.frames)
        start = time.perf_counter()
        chunks = ActionChunks.load(root, horizon=1)
        load_s = time.perf_counter() - start
        print(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, ", end="")
        print(f"torch {torch.__version__} with 1 thread; {chunks.frames} frames, loaded in {load_s:.2f} s\n")
        columns = [f"LeRobot, {workers} workers" for workers in arguments.workers]
        header = ["horizon", "batch", "ActionChunks", *columns, "ratio"]
        print("| " + " | ".join(header) + " |\n" + "|---:" * len(header) + "|")
        for horizon in arguments.horizons:
            chunks = ActionChunks.load(root, horizon=horizon, allow_short=True)
            for batch_size in arguments.batch_sizes:
                fast = rate(ours(chunks, batch_size), batch_size, arguments.seconds, time.process_time)
                slow = [
                    rate(
                        lerobots(root, horizon, batch_size, workers),
                        batch_size,
                        arguments.seconds,
                        time.perf_counter if workers else time.process_time,
                    )
                    for workers in arguments.workers
                ]
                cells = [f"{value:,.0f}/s" for value in (fast, *slow)]
                print(f"| {horizon} | {batch_size} | {' | '.join(cells)} | {fast / max(slow):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
