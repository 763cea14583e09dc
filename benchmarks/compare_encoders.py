"""Heads crossed with encoders: the same demonstrations of Lift read as object poses, or by two cameras.

Every cell is `anyorder train` and `anyorder rollout` with the model of the README's camera policy; joints are read in
both columns. The last checkpoint is rolled out. Finished cells are kept, so a killed run continues. Prints Markdown.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cells import arguments
from peers import success

HEADS = ("regression", "mip", "autoregressive", "gaussian_diffusion", "masked_diffusion")
ENCODERS = {
    "object poses": ["observation.state", "observation.environment_state"],
    "two cameras": ["observation.state", "observation.images.front", "observation.images.wrist"],
}
TASK = ["env=so101_lift", "env.cameras=[front,wrist]"]
SETTINGS = ["optimizer.lr=0.001", "chunk_size=8", "n_action_steps=6", "dataset.validation_fraction=0.05"]
MEASURING = ["eval_chunks=256", "eval_samples=8", "device=cpu", "progress=false", "resume=true"]


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_encoders", steps=1000)
    parser.add_argument("--heads", nargs="+", default=HEADS, choices=HEADS)
    parser.add_argument("--demos", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="of training")
    options = parser.parse_args()
    data = options.folder / f"data_{options.demos}"
    run("record", *TASK, f"episodes={options.demos}", f"root={data}", "resume=true")
    with ThreadPoolExecutor(options.workers) as pool:
        jobs = {
            (head, encoder): pool.submit(cell, data, head, encoder, options)
            for head in options.heads
            for encoder in ENCODERS
        }
        print(f"| head | {' | '.join(ENCODERS)} |\n|---|{'---|' * len(ENCODERS)}")
        try:
            for head in options.heads:
                texts = [success([jobs[head, encoder].result()]) for encoder in ENCODERS]
                print(f"| {head} | {' | '.join(texts)} |", flush=True)
        finally:  # after a failure nothing new begins
            pool.shutdown(cancel_futures=True)


def cell(data: Path, head: str, encoder: str, options: Any) -> dict[str, Any]:
    """Train and roll out one cell unless that is on disk; return the rollout's summary.

    Raises:
        SystemExit: a command failed, or the cell on disk has another number of episodes.
    """
    name = f"{head}_{encoder.replace(' ', '_')}_{options.demos}_{options.steps}_{options.seed}"
    folder: Path = options.folder / name
    summary = folder / "rollout" / "summary.json"
    if not summary.exists():
        shutil.rmtree(folder / "rollout", ignore_errors=True)
        settings = [f"dataset.root={data}", f"factorization={head}", *SETTINGS, *MEASURING]
        settings += [f"dataset.observations=[{','.join(ENCODERS[encoder])}]"]
        settings += [f"steps={options.steps}", f"seed={options.seed}", f"output_dir={folder}"]
        run("train", *settings)
        rolling = [f"episodes={options.episodes}", "batch_size=25", "videos=0", "device=cpu"]
        run("rollout", f"policy={folder}", *rolling)
    found: dict[str, Any] = json.loads(summary.read_text())
    if found["episodes"] != options.episodes:
        raise SystemExit(f"{folder}: {found['episodes']} episodes, {options.episodes} asked")
    return found


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
