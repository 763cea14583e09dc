"""Cells of a comparison: demonstrations of a task, a policy trained on them, its success; kept on disk when done."""

import argparse
import json
import multiprocessing
import shutil
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
    """

    task: str
    demos: int
    family: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    tokenizer: str = "fast"
    seed: int = 0

    @property
    def name(self) -> str:
        """The family and what differs from its defaults."""
        return " ".join([self.family, *(f"{key}={value}" for key, value in self.options.items())])

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
    return parser


TEST_SEED = 1_000_000
"""Of the first episode of a rollout that reports, ``anyorder rollout``'s own."""


def measure(
    cells: list[Cell], folder: Path, steps: int, episodes: int, workers: int, first_seed: int = TEST_SEED
) -> None:
    """Record, train and roll out every cell that is not on disk yet; ``first_seed`` is the first episode's."""
    for task in dict.fromkeys(cell.task for cell in cells):
        record(folder, task, max(cell.demos for cell in cells if cell.task == task))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(work, cell, folder, steps, episodes, first_seed) for cell in cells]
        for cell, job in zip(cells, jobs, strict=True):
            print(cell.task, cell.demos, cell.name, *job.result(), flush=True)


def record(folder: Path, task: str, count: int) -> None:
    """Record a task's demonstrations, of which smaller sets are subsets."""
    from anyorder.commands import record
    from anyorder.envs import EnvConfig

    options = next(
        {"type": kind.choice, **presets[task]}
        for kind in EnvConfig.choices.values()
        if task in (presets := kind.presets())
    )
    env = EnvConfig.named(options.pop("type"), **options)
    root = str(folder / "data" / task)
    record.run(record.RecordConfig(env=env, root=root, episodes=count, resume=True), Console(quiet=True))


def work(cell: Cell, folder: Path, steps: int, episodes: int, first_seed: int = TEST_SEED) -> tuple[int, int]:
    """Train and roll out one cell; returns successes and episodes.

    Raises:
        SystemExit: the folder holds a cell of another budget.
    """
    import torch

    from anyorder.commands import rollout, train
    from anyorder.commands.demo import DROPOUT, OBSERVATION_NOISE, REGULARIZED
    from anyorder.factorization import FactorizationConfig
    from anyorder.networks import TransformerConfig
    from anyorder.tokenizers import TokenizerConfig
    from anyorder.training.config import DatasetConfig, TrainConfig

    torch.set_num_threads(1)
    run = cell.folder(folder)
    summary = run / "rollout" / "summary.json"
    if not summary.exists():
        shutil.rmtree(run / "rollout", ignore_errors=True)
        regularised = cell.family in REGULARIZED
        settings = TrainConfig(
            output_dir=str(run),
            dataset=DatasetConfig(root=str(folder / "data" / cell.task), episodes=cell.demos, allow_short=True),
            factorization=FactorizationConfig.named(cell.family, **cell.options),
            tokenizer=TokenizerConfig.named(cell.tokenizer),
            network=TransformerConfig(dropout=DROPOUT if regularised else 0.0),
            observation_noise=OBSERVATION_NOISE if regularised else 0.0,
            steps=steps,
            eval_freq=steps,
            seed=cell.seed,
            device="cpu",
            resume=True,
            progress=False,
        )
        train.run(settings, Console(quiet=True))
        rollout.run(
            rollout.RolloutConfig(policy=str(run), episodes=episodes, seed=first_seed, videos=0, device="cpu"),
            Console(quiet=True),
        )
    found = json.loads(summary.read_text())
    trained = json.loads((run / "train_config.json").read_text())["steps"]
    if (trained, found["episodes"]) != (steps, episodes):
        raise SystemExit(f"{run}: {trained} steps and {found['episodes']} episodes, {steps} and {episodes} asked")
    return found["successes"], found["episodes"]


def success(cell: Cell, folder: Path) -> str:
    """Return a cell's success with its Wilson interval."""
    from anyorder.rollouts.statistics import wilson_interval

    summary = json.loads((cell.folder(folder) / "rollout/summary.json").read_text())
    low, high = wilson_interval(summary["successes"], summary["episodes"])
    return f"{summary['successes']}/{summary['episodes']} ({low:.0%}-{high:.0%})"
