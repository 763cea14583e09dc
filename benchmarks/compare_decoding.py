"""Ways to decode, on one trained policy: error on held-out chunks, success and time a chunk; prints Markdown.

``python benchmarks/compare_decoding.py policy=outputs/ar episodes=100 seeds=[0,1]``

The weights are the same in all rows, and all rows meet the same episodes. With several seeds of the policy's own
sampling the interval counts episodes of all of them as independent, which those of a row that draws nothing are not.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from yaml import safe_load

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.errors import ConfigError, UserError
from anyorder.factorization import DecodeConfig
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import chunk_latency_ms, rollout
from anyorder.rollouts.statistics import wilson_interval
from anyorder.settings import Settings, from_plain, setting, to_plain
from anyorder.training.checkpoint import load_policy, recorded_env
from anyorder.training.chunk_error import chunk_error
from anyorder.training.config import DatasetConfig
from anyorder.training.data import load_chunks
from anyorder.training.resume import read_settings

WAYS: dict[str, tuple[float, dict[str, Any]]] = {
    "mode": (0.0, {}),
    "local_mean": (0.0, {"point": "local_mean"}),
    "median": (0.0, {"point": "median"}),
    "sample": (1.0, {}),
    "mean": (0.0, {"rule": "mean"}),
    "medoid": (0.0, {"rule": "medoid"}),
    "cluster": (0.0, {"rule": "cluster"}),
}
"""The temperature and the settings of ``decode`` of each row."""


@dataclass
class CompareConfig(Settings):
    """What is compared on what."""

    policy: str = setting(meaning="Run folder of `anyorder train`.")
    root: str | None = setting(None, "Folder of the dataset; the one the policy was trained on when null.")
    episodes: int = setting(100, "Rollouts a row and seed.", least=1)
    seeds: list[int] = setting([0], "Seeds of the policy's own sampling.", least=0)
    samples: int = setting(16, "Samples an observation.", least=1)
    bandwidth: float = setting(DecodeConfig().bandwidth, "Of the clusters.", least=0)
    chunks: int = setting(256, "Held-out chunks compared.", least=1)
    ways: list[str] = setting([*WAYS], "Which rows.", among=WAYS)


def main(words: list[str]) -> None:
    """Print one row a way."""
    torch.set_num_threads(1)
    plain = {key: safe_load(value) for key, _, value in (word.partition("=") for word in words)}
    config: CompareConfig = from_plain(CompareConfig, plain)
    saved = read_settings(Path(config.policy))
    if saved is None:
        raise ConfigError("policy", config.policy, "a run folder of `anyorder train`")
    data: DatasetConfig = from_plain(DatasetConfig, saved["dataset"] | ({"root": config.root} if config.root else {}))
    policy = load_policy(config.policy, "cpu")
    chunks = load_chunks(data, policy.config.chunk_size, policy.config.n_obs_steps)
    print(f"{config.episodes} episodes x {len(config.seeds)} seeds, {config.samples} samples, {config.policy}\n")
    print("| decoding | held-out chunk error | success, 95 % interval | ms a chunk, batch 1 | s |")
    print("|---|---:|---:|---:|---:|")
    for name in config.ways:
        temperature, settings = WAYS[name]
        sizes = {"samples": config.samples, "bandwidth": config.bandwidth}
        policy.config.temperature = temperature if policy.factorization.draws_tokens else 0.0
        policy.config.decode = from_plain(DecodeConfig, to_plain(DecodeConfig()) | sizes | settings)
        try:
            print(f"| {name} | {row(policy, config, *chunks)} |", flush=True)
        except ConfigError as error:
            print(f"| {name} | refused: {error} | | | |")


def row(policy: AnyOrderPolicy, config: CompareConfig, train: ActionChunks, held_out: ActionChunks) -> str:
    """Return the numbers of one way to decode."""
    began = time.perf_counter()
    env = recorded_env(config.policy)
    errors = [chunk_error(policy, held_out, train=train, limit=config.chunks, seed=seed) for seed in config.seeds]
    off = [error.policy for error in errors if error is not None]
    milliseconds = chunk_latency_ms(env, policy, clock=time.process_time)
    successes = 0
    for seed in config.seeds:
        policy.manual_seed(seed)
        successes += rollout(env, policy, episodes=config.episodes, seed=1_000_000, batch_size=50).successes
    count = config.episodes * len(config.seeds)
    low, high = wilson_interval(successes, count)
    error = f"{sum(off) / len(off):.4f}" if off else "unknown"
    success = f"{successes}/{count} = {successes / count:.0%} ({low:.0%} to {high:.0%})"
    return f"{error} | {success} | {milliseconds:.1f} | {time.perf_counter() - began:.0f}"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        raise SystemExit(f"compare_decoding: {error}") from error
