"""Five SO-101 tasks x four factorizations x two numbers of demonstrations: success with Wilson intervals.

Every cell is `anyorder train` and `anyorder rollout` with the same network, steps and seeds. As in the demo, the
factorization differs, and the autoregressive policy alone is regularised. Finished cells are kept, so a killed run
continues. Prints Markdown.
"""

import argparse
import json
import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console

TASKS = ("lift", "push", "pick_place", "stack", "either")
FAMILIES = ("autoregressive", "masked_diffusion", "gaussian_diffusion", "regression")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("outputs/compare_tasks"), help="where runs are kept"
    )
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--demos", nargs="+", type=int, default=(20, 100))
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps of each policy")
    parser.add_argument(
        "--episodes", type=int, default=100, help="rollouts a cell, on seeds that were not recorded"
    )
    parser.add_argument("--workers", type=int, default=2, help="cells at a time, one thread each")
    options = parser.parse_args()

    cells = [
        (task, count, family)
        for task in options.tasks
        for count in options.demos
        for family in options.families
    ]
    for task in options.tasks:
        record(options.folder, task, max(options.demos))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        jobs = [pool.submit(work, options.folder, *cell, options.steps, options.episodes) for cell in cells]
        for cell, job in zip(cells, jobs, strict=True):
            print(*cell, *job.result(), flush=True)
    print(table(options.folder, options.tasks, options.demos, options.families))


def record(folder: Path, task: str, count: int) -> None:
    """Record a task's demonstrations, of which smaller sets are subsets."""
    from anyorder.commands import record
    from anyorder.envs import EnvConfig

    env = EnvConfig.from_options("so101", {"task": task})
    record.run(record.RecordConfig(env, str(folder / "data" / task), count, resume=True), Console(quiet=True))


def cell_folder(folder: Path, task: str, count: int, family: str) -> Path:
    return folder / f"{task}_{count}_{family}"


def work(folder: Path, task: str, count: int, family: str, steps: int, episodes: int) -> tuple[int, int]:
    """Train and roll out one cell; returns successes and episodes."""
    import torch

    from anyorder.commands import rollout, train
    from anyorder.commands.demo import DROPOUT, OBSERVATION_NOISE, REGULARISED
    from anyorder.factorization import FactorizationConfig
    from anyorder.networks import TransformerConfig
    from anyorder.training.config import DatasetConfig, TrainConfig

    torch.set_num_threads(1)
    run = cell_folder(folder, task, count, family)
    summary = run / "rollout" / "summary.json"
    if not summary.exists():
        shutil.rmtree(run / "rollout", ignore_errors=True)
        settings = TrainConfig(
            output_dir=str(run),
            dataset=DatasetConfig(root=str(folder / "data" / task), episodes=count, allow_short=True),
            factorization=FactorizationConfig.from_options(family, {}),
            network=TransformerConfig(dropout=DROPOUT if family in REGULARISED else 0.0),
            observation_noise=OBSERVATION_NOISE if family in REGULARISED else 0.0,
            steps=steps,
            device="cpu",
            resume=True,
            progress=False,
        )
        train.run(settings, Console(quiet=True))
        rollout.run(
            rollout.RolloutConfig(policy=str(run), episodes=episodes, videos=0, device="cpu"),
            Console(quiet=True),
        )
    found = json.loads(summary.read_text())
    return found["successes"], found["episodes"]


def table(folder: Path, tasks: list[str], demos: list[int], families: list[str]) -> str:
    """Return the Markdown table of all cells."""
    from anyorder.envs.results import wilson_interval

    lines = ["| task | demos | " + " | ".join(families) + " |", "|---|---:|" + "---|" * len(families)]
    for task in tasks:
        for count in demos:
            cells = []
            for family in families:
                summary = json.loads(
                    (cell_folder(folder, task, count, family) / "rollout/summary.json").read_text()
                )
                low, high = wilson_interval(summary["successes"], summary["episodes"])
                cells.append(f"{summary['successes']}/{summary['episodes']} ({low:.0%}-{high:.0%})")
            lines.append(f"| {task} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
