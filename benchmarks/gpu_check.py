"""Does everything run on a GPU, and how fast? Every family trains, validates, is resumed, samples and rolls out there.

Prints one Markdown table: training samples a second, milliseconds a chunk for one observation and for 64, peak memory.
It takes a few minutes with ``make gpu-check``; without a GPU it says so and ends with 0.

    make gpu-check
    python benchmarks/gpu_check.py --families autoregressive regression
    python benchmarks/gpu_check.py --device cpu --families regression     # try the check itself
"""

import argparse
import contextlib
import datetime
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from anyorder import cli
from anyorder.datasets.write.origin import Origin
from anyorder.factorization import FactorizationConfig
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import chunk_latency_ms

HEAD = (
    "| family | training samples/s | chunk ms, batch 1 | chunk ms, batch 64 | peak memory MiB | after a resume |",
    "|---|---:|---:|---:|---:|---|",
)
TOKENIZERS = {"next_scale": "multiscale_vq", "next_frequency": "dct"}
"""The tokenizers of families that do not take any."""
STEPS, LAST_BEFORE_RESUME = 5, 3
TIMED_STEPS, BATCH = 30, 256


def main() -> int:
    """Check every family; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to try the check itself")
    parser.add_argument("--families", nargs="*", default=sorted(FactorizationConfig.choices), help="those to check")
    options = parser.parse_args()
    on_gpu = options.device != "cpu"
    if on_gpu and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was checked.")
        return 0
    name = torch.cuda.get_device_name(options.device) if on_gpu else "CPU"
    began = time.perf_counter()
    print(f"{name}, torch {torch.__version__}, {datetime.date.today()}\n", flush=True)
    failed = []
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "lift"
        run("record", "env=so101_lift", "episodes=8", f"root={data}")
        print("\n".join(HEAD), flush=True)
        for family in options.families:
            try:
                print(check(family, data, Path(place) / family, options.device), flush=True)
            except Exception as error:  # one family's failure must not hide the others'
                failed.append(family)
                print(f"| {family} | {type(error).__name__}: {' '.join(str(error).split())[:200]} |", flush=True)
    print(f"\n{len(options.families) - len(failed)} of {len(options.families)} families, ", end="")
    print(f"{time.perf_counter() - began:.0f} s")
    return 1 if failed else 0


def run(*words: str) -> None:
    """Run a command of ``anyorder``; what it prints goes to stderr.

    Raises:
        RuntimeError: it ends with another status than 0.
    """
    with contextlib.redirect_stdout(sys.stderr):
        status = cli.main(list(words))
    if status != 0:
        raise RuntimeError(f"anyorder {' '.join(words[:1])} ended with {status}")


def check(family: str, data: Path, place: Path, device: str) -> str:
    """Train, resume, sample and roll out a family; return its row of the table."""
    chosen = (
        f"dataset.root={data}",
        f"factorization={family}",
        f"tokenizer={TOKENIZERS.get(family, 'fast')}",
        f"device={device}",
        "progress=false",
    )
    saves = (f"steps={STEPS}", f"save_freq={LAST_BEFORE_RESUME}", f"eval_freq={STEPS}", "eval_samples=2")
    whole = place / "whole"
    run("train", f"output_dir={whole}", *chosen, *saves)
    # A kill after the third step leaves just this.
    resumed = shutil.copytree(whole, place / "resumed", symlinks=True)
    shutil.rmtree(resumed / "checkpoints" / f"{STEPS:06d}")
    (resumed / "checkpoints" / "last").unlink()
    (resumed / "checkpoints" / "last").symlink_to(f"{LAST_BEFORE_RESUME:06d}")
    run("train", f"output_dir={resumed}", *chosen, *saves, "resume=true")
    run("rollout", f"policy={whole}", "episodes=2", "videos=0", f"device={device}")
    fast = place / "fast"
    once = (f"steps={TIMED_STEPS}", "log_freq=1", f"batch_size={BATCH}", f"save_freq={TIMED_STEPS}")
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
    run("train", f"output_dir={fast}", *chosen, *once, f"eval_freq={TIMED_STEPS}", "eval_samples=2")
    peak = torch.cuda.max_memory_allocated(device) / 2**20 if device != "cpu" else float("nan")
    lines = [json.loads(line) for line in (fast / "metrics.jsonl").read_text().splitlines()]
    step_s = [line["step_s"] for line in lines if "step_s" in line][TIMED_STEPS // 3 :]
    with contextlib.redirect_stdout(sys.stderr):  # LeRobot tells where it loads from
        policy = AnyOrderPolicy.from_pretrained(fast / "checkpoints" / "last" / "pretrained_model")
    policy.to(device).eval()
    env = Origin.load(data).env_config()
    alone, many = (chunk_latency_ms(env, policy, batch_size=size, calls=10) for size in (1, 64))
    return (
        f"| {family} | {BATCH / statistics.median(step_s):,.0f} | {alone:.1f} | {many:.1f} | {peak:,.0f} | "
        f"{difference(whole, resumed)} |"
    )


def difference(whole: Path, resumed: Path) -> str:
    """Say how far the weights of a resumed run are from those of the undisturbed one.

    Raises:
        RuntimeError: further than sums in another order explain.
    """
    one, other = (
        load_file(run / "checkpoints" / "last" / "pretrained_model" / "model.safetensors") for run in (whole, resumed)
    )
    most = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    if most > 1e-3:
        raise RuntimeError(f"after a resume a weight differs by {most:.2g}")
    return "equal" if most == 0 else f"within {most:.1g}"


if __name__ == "__main__":
    sys.exit(main())
