"""Heads crossed with encoders: the same demonstrations of Lift read as object poses, or by two cameras.

Every cell is `anyorder train` and `anyorder rollout` with the settings of the README's camera policy; joints are read
in both columns, and the autoregressive policies alone are regularised, as in the demo. One thread a cell, the last
checkpoint. Finished cells are kept, so a killed run continues. Prints Markdown.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from anyorder.commands.demo import DROPOUT, OBSERVATION_NOISE, REGULARISED

HEADS = ("regression", "mip", "gaussian_diffusion", "autoregressive", "masked_diffusion")
ENCODERS = {
    "object poses": ["observation.state", "observation.environment_state"],
    "two cameras": ["observation.state", "observation.images.front", "observation.images.wrist"],
}
TASK = ["env=so101_lift", "env.cameras=[front,wrist]"]
SETTINGS = ["optimizer.lr=0.001", "chunk_size=8", "n_action_steps=6", "dataset.validation_fraction=0.05"]
MEASURING = ["eval_chunks=256", "eval_samples=8", "device=cpu", "progress=false", "resume=true"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/compare_encoders"), help="of the runs")
    parser.add_argument("--demos", type=int, default=300)
    parser.add_argument("--steps", type=int, default=2000, help="optimiser steps of each policy")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of training")
    parser.add_argument("--episodes", type=int, default=100, help="rollouts a seed")
    parser.add_argument("--workers", type=int, default=2, help="cells at a time")
    options = parser.parse_args()
    data = options.folder / "data"
    run("record", *TASK, f"episodes={options.demos}", f"root={data}", "resume=true")
    with ThreadPoolExecutor(options.workers) as pool:
        jobs = {
            (head, encoder, seed): pool.submit(cell, options, head, encoder, seed)
            for seed in options.seeds
            for head in HEADS
            for encoder in ENCODERS
        }
        print(f"| head | {' | '.join(ENCODERS)} |\n|---|{'---|' * len(ENCODERS)}")
        for head in HEADS:
            texts = [
                text([jobs[head, encoder, seed].result() for seed in options.seeds]) for encoder in ENCODERS
            ]
            print(f"| {head} | {' | '.join(texts)} |", flush=True)


def cell(options: argparse.Namespace, head: str, encoder: str, seed: int) -> tuple[int, int]:
    """Train and roll out one cell unless that is on disk; return successes and episodes."""
    folder = options.folder / f"{head}_{encoder.replace(' ', '_')}_{options.steps}_{seed}"
    summary = folder / "rollout" / "summary.json"
    if not summary.exists():
        shutil.rmtree(folder / "rollout", ignore_errors=True)
        settings = [f"dataset.root={options.folder / 'data'}", f"factorization={head}", *SETTINGS, *MEASURING]
        settings += [f"dataset.observations=[{','.join(ENCODERS[encoder])}]"]
        settings += [f"steps={options.steps}", f"seed={seed}", f"output_dir={folder}"]
        if head in REGULARISED:
            settings += [f"network.dropout={DROPOUT}", f"observation_noise={OBSERVATION_NOISE}"]
        run("train", *settings)
        first = 1_000_000 + seed * options.episodes
        rolling = [f"episodes={options.episodes}", f"seed={first}", "batch_size=25", "videos=0", "device=cpu"]
        run("rollout", f"policy={folder}", *rolling)
    found = json.loads(summary.read_text())
    return found["successes"], found["episodes"]


def text(found: list[tuple[int, int]]) -> str:
    """Return pooled successes with Wilson's interval."""
    from anyorder.envs.results import wilson_interval

    successes, episodes = (sum(column) for column in zip(*found, strict=True))
    low, high = wilson_interval(successes, episodes)
    return f"{successes}/{episodes} [{100 * low:.0f}, {100 * high:.0f}]"


def run(*arguments: str) -> None:
    """Run an `anyorder` command on one thread."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "anyorder"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"anyorder {' '.join(arguments)}: {done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
