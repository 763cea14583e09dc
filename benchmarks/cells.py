"""Cells of a comparison: demonstrations of a task, a policy trained on them, its success; kept on disk when done."""

import argparse
import json
import multiprocessing
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console


@dataclass(frozen=True)
class Cell:
    """One policy on one task.

    Attributes:
        task: a preset of ``anyorder record env=...``.
        demos: how many demonstrations it learns from.
        family: the factorization.
        options: its settings.
        tokenizer: of its actions.
        seed: of its training.
        training: further settings of ``anyorder train``, nested as in a run's ``train_config.json``.
    """

    task: str
    demos: int
    family: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    tokenizer: str = "fast"
    seed: int = 0
    training: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The family and what differs from its defaults."""
        return " ".join([self.family, *(f"{key}={value}" for key, value in (self.options | self.changed).items())])

    @property
    def changed(self) -> dict[str, Any]:
        """The further settings by dotted name."""
        from anyorder.settings import dotted

        return dotted(self.training)

    def folder(self, parent: Path) -> Path:
        """Where its run is kept."""
        seed = f"_seed_{self.seed}" if self.seed else ""
        return parent / f"{self.task}_{self.demos}_{self.name.replace(' ', '_')}_{self.tokenizer}{seed}"


def arguments(description: str, folder: str, steps: int) -> argparse.ArgumentParser:
    """Return the options that all comparisons have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(folder), help="where runs are kept")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps of each policy")
    parser.add_argument("--episodes", type=int, default=100, help="rollouts a cell, on unseen seeds")
    parser.add_argument("--workers", type=int, default=2, help="cells at a time, one thread each")
    parser.add_argument("--device", default="cpu", help="where policies are trained; they act on the CPU")
    return parser


DONE = "trained.json"
"""File in a cell's folder that says its training is over, and what it cost."""

LEARNT_DRAWS, LEARNT_CHUNKS = 4, 256
"""Of the NLL on training chunks: draws a chunk, where it is a bound, and chunks."""

TEST_SEED = 1_000_000
"""Of the first episode of a rollout that reports, ``anyorder rollout``'s own."""


def measure(cells: list[Cell], options: argparse.Namespace, first_seed: int = TEST_SEED) -> None:
    """Record, train and roll out every cell that is not on disk yet.

    ``options`` are those of ``arguments``; with ``episodes`` 0 nothing is rolled out. ``first_seed`` is the first
    episode's.
    """
    for task in dict.fromkeys(cell.task for cell in cells):
        record(options.folder, task, max(cell.demos for cell in cells if cell.task == task))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        jobs = [pool.submit(work, cell, options, first_seed) for cell in cells]
        for cell, job in zip(cells, jobs, strict=True):
            print(cell.task, cell.demos, cell.name, cell.seed, *job.result(), flush=True)


def record(folder: Path, task: str, count: int) -> None:
    """Record a task's demonstrations, of which smaller sets are subsets."""
    from anyorder.commands import record
    from anyorder.datasets.read.folder import read_info
    from anyorder.envs import EnvConfig

    options = next(
        {"type": kind.choice, **presets[task]}
        for kind in EnvConfig.choices.values()
        if task in (presets := kind.presets())
    )
    env = EnvConfig.named(options.pop("type"), **options)
    root = folder / "data" / task
    if root.exists() and read_info(root).total_episodes >= count:
        return
    record.run(record.RecordConfig(env=env, root=str(root), episodes=count, resume=True), Console(quiet=True))


def work(cell: Cell, options: argparse.Namespace, first_seed: int = TEST_SEED) -> tuple[int, int]:
    """Train and roll out one cell; returns successes and episodes.

    Raises:
        SystemExit: the folder holds a cell of another budget.
    """
    import torch

    from anyorder.commands import rollout, train
    from anyorder.settings import from_plain
    from anyorder.training.config import TrainConfig

    torch.set_num_threads(1)
    folder, steps, episodes = options.folder, options.steps, options.episodes
    run = cell.folder(folder)
    summary = run / "rollout" / "summary.json"
    if not (summary if episodes else run / DONE).exists():
        shutil.rmtree(run / "rollout", ignore_errors=True)
        plain = {
            **cell.training,
            "output_dir": str(run),
            "dataset": {"root": str(folder / "data" / cell.task), "episodes": cell.demos, "allow_short": True},
            "factorization": {"type": cell.family, **cell.options},
            "tokenizer": {"type": cell.tokenizer},
            "steps": steps,
            "eval_freq": steps,
            "seed": cell.seed,
            "device": options.device,
            "resume": True,
            "progress": False,
        }
        started = time.process_time()
        train.run(from_plain(TrainConfig, plain), Console(quiet=True))
        cpu_s = time.process_time() - started
        (run / DONE).write_text(json.dumps({"steps": steps, "cpu_s": cpu_s, "train_nll": training_nll(run)}))
    if episodes and not summary.exists():
        rollout.run(
            rollout.RolloutConfig(policy=str(run), episodes=episodes, seed=first_seed, videos=0, device="cpu"),
            Console(quiet=True),
        )
    trained = json.loads((run / "train_config.json").read_text())["steps"]
    if not episodes:
        return 0, 0
    found = json.loads(summary.read_text())
    if (trained, found["episodes"]) != (steps, episodes):
        raise SystemExit(f"{run}: {trained} steps and {found['episodes']} episodes, {steps} and {episodes} asked")
    return found["successes"], found["episodes"]


def training_nll(run: Path) -> float | None:
    """Return a run's NLL on chunks it has learnt from, in nats an action value; None without a likelihood."""
    from anyorder.settings import from_plain
    from anyorder.training.checkpoint import load_policy
    from anyorder.training.config import DatasetConfig
    from anyorder.training.data import load_chunks
    from anyorder.training.evaluate import validate
    from anyorder.training.resume import read_settings

    saved = read_settings(run)
    assert saved is not None
    policy = load_policy(run, device="cpu")
    chunks, _ = load_chunks(from_plain(DatasetConfig, saved["dataset"]), policy.config.chunk_size)
    return validate(policy, chunks, samples=LEARNT_DRAWS, limit=LEARNT_CHUNKS, seed=0).nll_nats_per_value


@dataclass(frozen=True)
class Result:
    """What a cell gave.

    Attributes:
        nll: nats an action value of held-out chunks, or an upper bound; None where the family has no likelihood.
        error: mean absolute error of their actions, in half of the range an action has in training.
        train_nll: the NLL of chunks it has learnt from.
        cpu_s: CPU seconds of training and validation.
        successes: in simulation.
        episodes: of how many.
    """

    nll: float | None
    error: float
    train_nll: float | None
    cpu_s: float
    successes: int
    episodes: int


def finished(cell: Cell, options: argparse.Namespace) -> Result | None:
    """Return what a cell gave, or None before it is trained and rolled out for all ``episodes`` of the options."""
    run = cell.folder(options.folder)
    summary = run / "rollout" / "summary.json"
    if not (summary if options.episodes else run / DONE).exists():
        return None
    rolled = json.loads(summary.read_text()) if options.episodes else {"successes": 0, "episodes": 0}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def last(key: str) -> Any:
        return next((line[key] for line in reversed(lines) if key in line), None)

    done = json.loads((run / DONE).read_text())
    scores = last("val_nll_nats_per_value"), last("chunk_error"), done["train_nll"], done["cpu_s"]
    return Result(*scores, rolled["successes"], rolled["episodes"])


def success(cell: Cell, folder: Path) -> str:
    """Return a cell's success with its Wilson interval."""
    summary = json.loads((cell.folder(folder) / "rollout/summary.json").read_text())
    return rate(summary["successes"], summary["episodes"])


def rate(successes: int, episodes: int) -> str:
    """Return a success rate with its Wilson interval; empty where nothing was rolled out."""
    from anyorder.rollouts.statistics import wilson_interval

    if not episodes:
        return ""
    low, high = wilson_interval(successes, episodes)
    return f"{successes}/{episodes} ({low:.0%}-{high:.0%})"
