"""LeRobot's own commands beside this package's, with the same policy: training samples a second, time of an evaluation.

Both train the same model on the same demonstrations (states only) with the same batch, and both evaluate the same
checkpoint in the same environment, one after the other in one run, on one thread, wall time. ALOHA is evaluated in the
environment that each package has of it. Training is measured in the last third of the run; evaluation, once, as the
whole command and by the seconds that either command reports of its episodes, films included.
Prints Markdown.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

from bench_loader import processor

BIN = Path(sys.executable).parent
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demos", type=int, default=50)
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of each training")
    parser.add_argument(
        "--families", nargs="*", default=["regression", "autoregressive"], help="none: only the evaluations"
    )
    parser.add_argument("--chunks", nargs="+", type=int, default=[16, 50], help="chunk sizes")
    parser.add_argument("--episodes", type=int, default=50, help="of the evaluations")
    parser.add_argument("--repeats", type=int, default=3, help="trainings of each kind; medians are printed")
    parser.add_argument("--task", default="so101_lift", help="a preset of `anyorder record env=...`")
    options = parser.parse_args()
    print(f"{processor()}, {time.strftime('%Y-%m-%d')}, one thread\n")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run("anyorder", "record", f"env={options.task}", f"episodes={options.demos}", f"root={root / 'data'}")
        if options.families:
            titles = "| family, chunk | lerobot-train | with fast loading | anyorder train | ratio |"
            print(f"{titles}\n|---|---:|---:|---:|---:|")
        for family in options.families:
            for chunk in options.chunks:
                rates = [
                    [train(root, family, chunk, options.steps) for train in (stock, hooked, ours)]
                    for _ in range(options.repeats)
                ]
                a, b, c = (sorted(column)[len(column) // 2] for column in zip(*rates, strict=True))
                print(f"| {family}, {chunk} | {a:,.0f} | {b:,.0f} | {c:,.0f} | {c / a:.1f} |", flush=True)
        evaluations(root, options)


def evaluations(root: Path, options: argparse.Namespace) -> None:
    """Evaluate one policy by both commands: in this package's environment, and in ALOHA as each of them has it."""
    print("\n| command | episodes | seconds, whole command | seconds, episodes | success |")
    print("|---|---:|---:|---:|---:|")
    kind, task = options.task.split("_", 1)
    policy = short_training(root, options.task, root / "data", "[]")
    for batch in (1, options.episodes):
        arguments = [f"--env.type=anyorder_{kind}", f"--env.task={task}", f"--eval.batch_size={batch}"]
        name = f"lerobot-eval, {options.task}, {batch} at a time"
        evaluate(name, root / f"eval{batch}", policy, options.episodes, arguments)
    for filmed in (10, 0):
        roll_out(options.task, root, policy, options.episodes, filmed)
    aloha = "aloha_transfer_cube"
    run("anyorder", "record", f"env={aloha}", "episodes=4", f"root={root / aloha}")
    # LeRobot's ALOHA offers no object poses, so this policy reads joints alone; its success does not matter here.
    policy = short_training(root, aloha, root / aloha, "[observation.state]")
    arguments = ["--env.type=aloha", "--env.task=AlohaTransferCube-v0", "--eval.batch_size=1"]
    # It draws three cameras at every step: fifty episodes would take hours without a GPU.
    evaluate("lerobot-eval, its own aloha", root / "eval_aloha", policy, 3, arguments)
    for filmed in (10, 0):
        roll_out(aloha, root, policy, options.episodes, filmed)


def short_training(root: Path, name: str, data: Path, observations: str) -> Path:
    """Train a small policy and return its run."""
    policy = root / f"policy_{name}"
    settings = ["factorization=regression", "steps=300", "dataset.allow_short=true", "progress=false"]
    data_settings = [f"dataset.root={data}", f"dataset.observations={observations}"]
    run("anyorder", "train", *data_settings, *settings, f"output_dir={policy}")
    return policy


def evaluate(name: str, output: Path, policy: Path, episodes: int, arguments: list[str]) -> None:
    """Print the line of ``lerobot-eval``, which always films the first ten episodes."""
    whole_s = timed(
        "lerobot-eval",
        f"--policy.path={policy}/checkpoints/last/pretrained_model",
        "--policy.device=cpu",
        f"--eval.n_episodes={episodes}",
        "--eval.use_async_envs=false",
        "--seed=1000000",
        f"--output_dir={output}",
        *arguments,
    )
    found = json.loads((output / "eval_info.json").read_text())["overall"]
    row(name, episodes, whole_s, found["eval_s"], found["pc_success"])


def roll_out(env: str, root: Path, policy: Path, episodes: int, filmed: int) -> None:
    """Print the line of ``anyorder rollout``."""
    output = root / f"rollout_{env}_{filmed}"
    settings = [f"env={env}", f"episodes={episodes}", f"videos={filmed}", "device=cpu", f"output={output}"]
    whole_s = timed("anyorder", "rollout", f"policy={policy}", *settings)
    summary = json.loads((output / "summary.json").read_text())
    name = f"anyorder rollout, {env}, {filmed} filmed"
    row(name, episodes, whole_s, summary["seconds"], 100 * summary["success_rate"])


def row(name: str, episodes: int, whole_s: float, episodes_s: float, success: float) -> None:
    """Print a line of the evaluations' table."""
    print(f"| {name} | {episodes} | {whole_s:.0f} | {episodes_s:.1f} | {success:.0f} % |", flush=True)


def stock(root: Path, family: str, chunk: int, steps: int, **environment: str) -> float:
    """Return samples a second of ``lerobot-train``, from its own log."""
    with tempfile.TemporaryDirectory() as folder:
        log = run(
            "lerobot-train",
            "--policy.type=anyorder",
            f"--policy.factorization={family}",
            f"--policy.chunk_size={chunk}",
            f"--policy.n_action_steps={chunk // 2}",
            "--policy.device=cpu",
            "--policy.push_to_hub=false",
            "--dataset.repo_id=local/data",
            f"--dataset.root={root / 'data'}",
            f"--batch_size={BATCH}",
            f"--steps={steps}",
            f"--log_freq={steps // 3}",
            "--save_checkpoint=false",
            "--num_workers=0",
            "--env_eval_freq=0",
            f"--output_dir={folder}/run",
            **environment,
        )
    found = re.findall(r"smp/s:(\d+)", log)
    return float(found[-1])


def hooked(root: Path, family: str, chunk: int, steps: int) -> float:
    """Return the same with this package's fast loading."""
    return stock(root, family, chunk, steps, ANYORDER_FAST_LOADING="1")


def ours(root: Path, family: str, chunk: int, steps: int) -> float:
    """Return samples a second of ``anyorder train``, from its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            "anyorder",
            "train",
            f"dataset.root={root / 'data'}",
            f"factorization={family}",
            f"chunk_size={chunk}",
            f"n_action_steps={chunk // 2}",
            f"batch_size={BATCH}",
            f"steps={steps}",
            f"log_freq={steps // 3}",
            f"eval_freq={steps}",
            "eval_chunks=8",
            "eval_samples=1",
            f"save_freq={steps}",
            "device=cpu",
            "progress=false",
            f"output_dir={folder}/run",
        )
        lines = [json.loads(line) for line in (Path(folder) / "run/metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "step_s" in line][-1]
    return BATCH / last["step_s"]


def run(command: str, *arguments: str, **environment: str) -> str:
    """Run a command to its end and return what it said."""
    done = subprocess.run(
        [str(BIN / command), *arguments], env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{command} {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def timed(command: str, *arguments: str) -> float:
    """Return the wall time of a command in s."""
    start = time.perf_counter()
    run(command, *arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
