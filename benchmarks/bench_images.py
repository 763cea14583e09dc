"""Samples a second with two cameras' frames, beside LeRobot's DataLoader on the same data; prints a Markdown table.

A sample is one frame of two cameras with its window of the next ``horizon`` actions; indices are random, as when
training. Without workers, seconds are CPU time of one core, so that other load on the machine does not matter; with
workers, wall time. Beside that, wall time too, the share of its time that a trainer waits for data whose steps keep one
core busy for ``--step-s`` seconds.
"""

import argparse
import datetime
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from bench_loader import processor, rate

from anyorder.datasets import ActionChunks
from anyorder.datasets.read.images import video_backend
from anyorder.training.batches import StepBatches, batches_of
from anyorder.training.order import BatchOrder

FPS = 30
SIZE = 96
CAMERAS = ("observation.images.front", "observation.images.wrist")


def make_dataset(root: Path, kind: str, episodes: int, frames: int) -> None:
    """Write episodes of a patch that moves over a textured ground, seen by two cameras."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    features = {key: {"dtype": "float32", "shape": (6,), "names": None} for key in ("observation.state", "action")}
    for camera in CAMERAS:
        features[camera] = {"dtype": kind, "shape": (SIZE, SIZE, 3), "names": ["height", "width", "channels"]}
    dataset = LeRobotDataset.create(
        "local/bench", FPS, features, root=root, use_videos=kind == "video", video_backend="pyav"
    )
    random = np.random.default_rng(0)
    ground = random.integers(60, 120, (SIZE // 8, SIZE // 8, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    with SuppressProgressBars():
        for _ in range(episodes):
            place = random.uniform(10, SIZE - 10, 2)
            for _ in range(frames):
                place = np.clip(place + random.normal(size=2), 8, SIZE - 9)
                row, column = place.astype(int)
                picture = ground.copy()
                picture[row - 8 : row + 8, column - 8 : column + 8] = (200, 80, 10)
                vector = random.normal(size=6).astype(np.float32)
                frame = {"observation.state": vector, "action": vector, "task": "Move."}
                dataset.add_frame({**frame, **dict.fromkeys(CAMERAS, picture)})
            dataset.save_episode(parallel_encoding=False)
        dataset.finalize()


def ours(chunks: ActionChunks, batch_size: int, workers: int) -> Iterator[dict]:
    source = StepBatches(chunks, BatchOrder(chunks.frames, batch_size, 0), slice(None))
    with batches_of(source, 0, 10**6, workers, torch.device("cpu")) as batches:
        while True:
            yield next(batches)


def lerobots(root: Path, horizon: int, batch_size: int, workers: int) -> Iterator[dict]:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / FPS for step in range(horizon)]}
    backend = video_backend()
    dataset = LeRobotDataset("local/bench", root=root, delta_timestamps=deltas, video_backend=backend)
    # One endless pass, so that workers start once, as in our loader.
    order = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=2**30)
    return iter(torch.utils.data.DataLoader(dataset, batch_size=batch_size, sampler=order, num_workers=workers))


def waiting(chunks: ActionChunks, batch_size: int, workers: int, steps: int, work_s: float) -> float:
    """Return the share of its time that a trainer waits whose step keeps one core busy for ``work_s`` seconds."""
    source = StepBatches(chunks, BatchOrder(chunks.frames, batch_size, 0), slice(None))
    matrix = torch.randn(256, 256)
    with batches_of(source, 0, steps + 1, workers, torch.device("cpu")) as batches:
        next(batches)
        batches.take_waited_s()
        start = time.perf_counter()
        for _ in range(steps):
            next(batches)
            until = time.thread_time() + work_s
            while time.thread_time() < until:
                matrix = torch.tanh(matrix @ matrix)
        return batches.take_waited_s() / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--episodes", type=int, default=8, help="episodes to generate")
    parser.add_argument("--frames", type=int, default=100, help="frames an episode to generate")
    parser.add_argument("--horizon", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2, help="worker processes where there are any")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured time per cell")
    parser.add_argument("--step-s", type=float, default=0.3, help="CPU seconds of a training step, to measure waiting")
    parser.add_argument("--steps", type=int, default=20, help="training steps to measure waiting; 0 for none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    horizon, size, workers = arguments.horizon, arguments.batch_size, arguments.workers
    count = arguments.episodes * arguments.frames
    print(
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end=""
    )
    print(f"torch {torch.__version__} with 1 thread; {count} frames of 2 cameras at {SIZE}x{SIZE}, ", end="")
    print(f"batches of {size}, {horizon} actions; waiting beside steps of {arguments.step_s:g} s\n")
    header = ["stored as", "loader", "samples/s", "clock", "share of time waited"]
    print("| " + " | ".join(header) + " |\n|---|---|---:|---|---:|")
    for kind in ("video", "image"):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "bench"
            make_dataset(root, kind, arguments.episodes, arguments.frames)
            start = time.process_time()
            cached = ActionChunks.load(root, horizon=horizon, images=True)
            cached.cache()
            decode_s = time.process_time() - start
            live = ActionChunks.load(root, horizon=horizon, images=True)
            cells = [
                (f"ours, in memory (decoded once in {decode_s:.1f} s)", cached, 0),
                ("ours, decoded when asked for", live, 0),
                (f"ours, decoded by {workers} processes", live, workers),
                ("LeRobot's DataLoader, 0 workers", None, 0),
                (f"LeRobot's DataLoader, {workers} workers", None, workers),
            ]
            for name, chunks, processes in cells:
                clock = time.perf_counter if processes else time.process_time
                batches = lerobots(root, horizon, size, processes) if chunks is None else ours(chunks, size, processes)
                speed = rate(batches, size, arguments.seconds, clock)
                del batches  # ends its processes
                waited = "-"
                if chunks is not None and arguments.steps:
                    share = waiting(chunks, size, processes, arguments.steps, arguments.step_s)
                    waited = f"{share:.1%}"
                kept = "wall" if processes else "CPU"
                print(f"| {kind} | {name} | {speed:,.0f} | {kept} | {waited} |", flush=True)


if __name__ == "__main__":
    main()
