"""LeRobot's policies and ours on the same demonstrations, episodes, seeds and budget: success, likelihood, speed.

ACT, DiffusionPolicy, VQ-BeT and multi_task_dit are LeRobot 0.6.1's own classes with their own losses, processors,
optimisers and histories (``peer_policies.py``); ours are those of the other comparisons, in the same loop
(``peer_training.py``). Every cell is one policy, task and training seed in a process of its own, one thread; each seed
has unseen episodes of its own, the same for every policy. The last weights are rolled out, averaged for everybody.
Everybody reads the low-dimensional state only, predicts 16 actions and executes 8; VQ-BeT predicts the 8 it executes.

The budget is ``samples=N`` (the same steps of 64 chunks for all) or ``seconds=S`` (the same CPU time of training for
all, with the cosine schedule ending there). Finished cells are kept, so a killed run continues, and the tables can be
printed at any time with ``--table-only``. Under each are the policies paired with those of ``--against``.
``--policies`` also takes other settings of the token families. Prints Markdown.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from cells import record
from peer_cells import Cell, budget_of, run_cell, sweep_cell
from peer_pairs import paired_table, seed_interval
from peer_policies import PEERS
from peer_training import BATCH, OURS, VARIANTS

from anyorder.envs import EnvConfig
from anyorder.errors import ConfigError, UserError
from anyorder.rollouts.statistics import wilson_interval

# Of Meta-World one task of each of the usual levels: easy, medium, hard and very hard.
DEMOS = {
    "metaworld_drawer-open-v3": 50,
    "metaworld_peg-insert-side-v3": 50,
    "metaworld_pick-place-v3": 50,
    "metaworld_stick-pull-v3": 50,
    "so101_pick_place": 50,
    "aloha_transfer_cube": 50,
    "pusht": 100,
}
OTHER_DEMOS = 50
"""Of any other task."""
GRADED = {"pusht": "largest coverage, mean"}
"""Tasks whose reward says how nearly an episode succeeded, and what its best is called."""
POLICIES = (*OURS, *PEERS)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
# What every cell imports, done once in the server that cells are forked from: 15 s of CPU time a cell saved.
PRELOAD = [
    "lerobot.policies.factory",
    *(f"lerobot.policies.{name}.modeling_{name}" for name in PEERS),
    "transformers.models.clip.modeling_clip",
    "anyorder.training.loop",
    "anyorder.commands.demo",
    "mujoco",
]


def main() -> None:
    parser = arguments()
    options = parser.parse_args()
    try:
        budget_of(options.budget)
        if options.sweep:
            sweep(options)
            return
        offered = [task for task in options.tasks if options.table_only or known(task)]
        for task in set(options.tasks) - set(offered):
            if task not in DEMOS:
                raise ConfigError("tasks", task, "a preset of anyorder record env=")
            print(f"{task}: left out, as this version has no such environment", flush=True)
        # All policies of the first seed on every task come first, so that an unfinished run already compares.
        cells = [
            Cell(options.folder, task, policy, seed, options.budget, options.episodes)
            for seed in options.seeds
            for task in offered
            for policy in options.policies
        ]
        failed = [] if options.table_only else measure(cells, options.workers)
        print(overview(cells, offered, options.policies), flush=True)
        for task in offered:
            here = [cell for cell in cells if cell.task == task]
            print(table(task, here, options.policies), flush=True)
            for baseline in options.against:
                print(paired(here, options.policies, baseline), flush=True)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    if failed:
        raise SystemExit("failed cells: " + ", ".join(failed))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/peers"), help="where cells are kept")
    parser.add_argument("--budget", default="samples=64000", help="samples=N or seconds=S, of training")
    parser.add_argument("--tasks", nargs="+", default=list(DEMOS), help="names as of anyorder record env=")
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=(*POLICIES, *VARIANTS))
    parser.add_argument(
        "--against",
        nargs="*",
        default=("mip", "act"),
        choices=(*POLICIES, *VARIANTS),
        help="pair all others with these",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="of training")
    parser.add_argument("--episodes", type=int, default=50, help="rollouts a training seed")
    parser.add_argument("--workers", type=int, default=2, help="cells at a time, one thread each")
    parser.add_argument("--table-only", action="store_true", help="print what is on disk")
    parser.add_argument(
        "--sweep", action="store_true", help="instead: held-out loss of LeRobot's policies by learning rate"
    )
    return parser


def known(task: str) -> bool:
    return any(task in kind.presets() for kind in EnvConfig.choices.values())


def isolated(workers: int) -> ProcessPoolExecutor:
    """Return a pool with a fresh process for every job, forked from a server that has only imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1)


def measure(cells: list[Cell], workers: int) -> list[str]:
    """Record what is missing, run every cell that is not on disk yet and return the names of those that failed."""
    failed = []
    waiting = [cell for cell in cells if cell.result() is None]
    with isolated(workers) as pool:
        tasks = dict.fromkeys(cell.task for cell in waiting)
        demos = {task: pool.submit(record, cells[0].folder, task, DEMOS.get(task, OTHER_DEMOS)) for task in tasks}
        for job in demos.values():
            job.result()
        started = time.monotonic()
        jobs = {pool.submit(run_cell, cell): cell for cell in waiting}
        for done, job in enumerate(as_completed(jobs), 1):
            cell = jobs[job]
            name = f"{cell.task} {cell.policy} {cell.seed}"
            left_s = (time.monotonic() - started) / done * (len(jobs) - done)
            error = job.exception()
            if error is None:
                found = job.result()
                what = f"{found['successes']}/{found['episodes']}, train {found['train_cpu_s']:.0f} s"
                what += f", roll out {found['rollout_cpu_s']:.0f} s"
            else:
                failed.append(name)
                what = f"FAILED: {type(error).__name__}: {error}"
            print(f"[{done}/{len(jobs)}] {name}: {what}; left {left_s / 60:.0f} min", flush=True)
    return failed


def overview(cells: list[Cell], tasks: list[str], policies: list[str]) -> str:
    """Return the successes of every policy on every task, those of all training seeds together."""
    lines = ["\n| policy | " + " | ".join(tasks) + " |", "|---|" + "---|" * len(tasks)]
    for policy in policies:
        found = [
            [r for cell in cells if (cell.task, cell.policy) == (task, policy) and (r := cell.result())]
            for task in tasks
        ]
        if any(found):
            lines.append(f"| {label(policy)} | " + " | ".join(success(results) for results in found) + " |")
    return "\n".join(lines)


def label(policy: str) -> str:
    return f"LeRobot {policy}" if policy in PEERS else policy


def success(results: list[dict[str, Any]]) -> str:
    """Return pooled successes with Wilson's interval; nothing where no cell is done."""
    if not results:
        return ""
    successes, episodes = (sum(result[key] for result in results) for key in ("successes", "episodes"))
    low, high = wilson_interval(successes, episodes)
    return f"{successes}/{episodes} = {successes / episodes:.0%} [{low:.0%}, {high:.0%}]"


def table(task: str, cells: list[Cell], policies: list[str]) -> str:
    """Return a task's table of the cells on disk."""
    found = [result for cell in cells if (result := cell.result()) is not None]
    if not found:
        return f"\n### {task}\n\nno cell yet"
    first = found[0]
    graded, rule = (f" {GRADED[task]} |", "---:|") if task in GRADED else ("", "")
    lines = [
        f"\n### {task}, {first['demos']} demonstrations, {first['budget']}, "
        f"episodes of at most {first['step_limit']} steps\n",
        f"| policy | params | success [95 % Wilson] | by seed |{graded} NLL, nats/value | steps | training CPU s "
        "| samples/s |"
        " chunk latency, CPU ms | memory of training, MiB | 95 % over episodes and training seeds |",
        f"|---|---:|---|---|{rule}---:|---:|---:|---:|---:|---:|---|",
    ]
    for policy in policies:
        results = [result for result in found if result["policy"] == policy]
        if results:
            lines.append(row(policy, results))
    return "\n".join(lines)


def paired(cells: list[Cell], policies: list[str], baseline: str) -> str:
    """Return a task's policies paired with one of them; nothing without two policies on disk."""
    results = {name: [r for cell in cells if cell.policy == name and (r := cell.result())] for name in policies}
    results = {name: found for name, found in results.items() if found}
    if len(results) < 2:
        return ""
    if baseline not in results:
        return f"\n{label(baseline)} has no cell of this task, so nothing is paired with it."
    return paired_table(results, baseline, {name: label(name) for name in results})


def row(policy: str, results: list[dict[str, Any]]) -> str:
    """Return a policy's line: successes pooled, everything else the mean over its training seeds."""
    mean: Callable[[str], float] = lambda key: sum(result[key] for result in results) / len(results)  # noqa: E731
    by_seed = ", ".join(f"{result['successes'] / result['episodes']:.0%}" for result in results)
    graded = f" {mean('mean_max_reward'):.3f} |" if results[0]["task"] in GRADED else ""
    nll = ""
    if results[0]["nll_nats_per_value"] is not None:
        nll = ("" if results[0]["nll_is_exact"] else "<= ") + f"{mean('nll_nats_per_value'):.3f}"
    return (
        f"| {label(policy)} | {mean('params'):,.0f} | {success(results)} | {by_seed} |{graded} {nll} "
        f"| {mean('steps'):,.0f} | {mean('train_cpu_s'):.0f} | {mean('samples_per_s'):.0f} "
        f"| {mean('chunk_latency_ms'):.1f} | {mean('training_memory_mib'):.0f} | {seed_interval(results)} |"
    )


def sweep(options: argparse.Namespace) -> None:
    """Print the held-out loss of LeRobot's policies on the first task, one column a learning rate."""
    kind, amount = budget_of(options.budget)
    if kind != "samples":
        raise ConfigError("budget", options.budget, "samples=N for a sweep")
    task, names = options.tasks[0], [name for name in options.policies if name in PEERS]
    with isolated(options.workers) as pool:
        pool.submit(record, options.folder, task, DEMOS.get(task, OTHER_DEMOS)).result()
        steps = round(amount / BATCH)
        jobs = {
            (name, rate): pool.submit(sweep_cell, options.folder, task, name, steps, rate)
            for name in names
            for rate in RATES
        }
        print(f"| {task}, {steps} steps | " + " | ".join(f"{rate:g}" for rate in RATES))
        print("|---|" + "---:|" * len(RATES))
        for name in names:
            losses = (f"{jobs[name, rate].result():.4g}" for rate in RATES)
            print(f"| {name} | " + " | ".join(losses) + " |", flush=True)


if __name__ == "__main__":
    main()
