"""Training steps/s, chunk latency (one and many observations) and peak memory of each factorization.

Every factorization in a process of its own, one thread. Prints Markdown.
"""

import argparse
import datetime
import multiprocessing
import platform
import resource
import statistics
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("outputs/bench/lift"), help="dataset; recorded if missing")
    parser.add_argument("--episodes", type=int, default=50, help="demonstrations to record")
    parser.add_argument("--steps", type=int, default=60, help="training steps to time, the first third not counted")
    parser.add_argument("--calls", type=int, default=20, help="chunks to time")
    options = parser.parse_args()
    if not options.root.exists():
        record(options.root, options.episodes)

    from anyorder.factorization import FactorizationConfig

    print(f"{platform.processor() or platform.machine()}, 1 thread, {datetime.date.today()}\n")
    print(
        "| factorization | params | train steps/s | chunks/s in training | chunk latency ms, batch 1 | batch 64 |"
        " forwards | peak memory MiB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    context = multiprocessing.get_context("spawn")
    for family in sorted(FactorizationConfig.choices):
        with context.Pool(1) as pool:
            print(pool.apply(measure, (options.root, family, options.steps, options.calls)), flush=True)


def record(root: Path, episodes: int) -> None:
    from rich.console import Console

    from anyorder.commands import record
    from anyorder.envs import EnvConfig

    env = EnvConfig.named("so101", task="lift")
    record.run(record.RecordConfig(env=env, root=str(root), episodes=episodes), Console(quiet=True))


def measure(root: Path, family: str, steps: int, calls: int) -> str:
    """Return one row of the table."""
    import torch
    from torch.optim.swa_utils import AveragedModel

    from anyorder.datasets.write.origin import Origin
    from anyorder.factorization import FactorizationConfig
    from anyorder.rollouts.rollout import chunk_latency_ms
    from anyorder.training.config import DatasetConfig, TrainConfig
    from anyorder.training.data import load_chunks
    from anyorder.training.fresh import make_policy
    from anyorder.training.learner import Learner
    from anyorder.training.optimizer import Schedule
    from anyorder.training.order import BatchOrder

    torch.set_num_threads(1)
    config = TrainConfig(
        dataset=DatasetConfig(root=str(root), allow_short=True),
        factorization=FactorizationConfig.named(family),
        device="cpu",
    )
    chunks, _ = load_chunks(config.dataset, config.chunk_size)
    policy = make_policy(config, chunks)
    optimizer = torch.optim.AdamW(policy.get_optim_params(), lr=1e-3)
    learner = Learner(policy, optimizer, AveragedModel(policy), Schedule(config.optimizer, config.steps, 0))
    order = BatchOrder(chunks.frames, config.batch_size, 0)
    times = []
    for step in range(steps):
        start = time.perf_counter()
        learner.optimize(chunks.batch(order.rows(step)), step)
        times.append(time.perf_counter() - start)
    rate = 1 / statistics.median(times[steps // 3 :])
    policy.eval()
    env = Origin.load(root).env_config()
    latency = [chunk_latency_ms(env, policy, batch_size=size, calls=calls) for size in (1, 64)]
    calls_before = policy.calls
    chunk_latency_ms(env, policy, calls=1)
    forwards = (policy.calls - calls_before) // 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {family} | {policy.trainable:,} | {rate:.1f} | {rate * config.batch_size:.0f} | {latency[0]:.1f} | "
        f"{latency[1]:.1f} | {forwards} | {peak:.0f} |"
    )


if __name__ == "__main__":
    main()
