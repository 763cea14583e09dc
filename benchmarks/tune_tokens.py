"""What helps autoregression where it loses: one setting at a time changed from the comparison with LeRobot's policies.

Same loop, demonstrations and number of samples as ``peers.py``. Settings are to be chosen by one training seed and its
episodes and reported on others, so run ``--seeds 0`` first. Finished cells are kept. Prints Markdown.
"""

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from cells import record
from peer_cells import FIRST_EPISODE, likelihood, rollout_env, write
from peer_policies import HORIZON
from peer_training import BATCH, fit, make_learner, split
from peers import DEMOS

from anyorder.envs.results import wilson_interval
from anyorder.envs.rollout import rollout
from anyorder.networks import TransformerConfig
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import OptimizerConfig


def tokens(name: str, **options: Any) -> dict[str, Any]:
    """Return the change to another tokenizer."""
    return {"tokenizer": TokenizerConfig.from_options(name, options)}


VARIANTS: dict[str, dict[str, Any]] = {
    "as in the table": {},
    "no dropout, no noise": {"network": TransformerConfig(), "observation_noise": 0.0},
    "dropout 0.2": {"network": TransformerConfig(dropout=0.2)},
    "observation noise 0.03": {"observation_noise": 0.03},
    "learning rate 0.001": {"optimizer": OptimizerConfig(lr=0.001)},
    "learning rate 0.01": {"optimizer": OptimizerConfig(lr=0.01)},
    "relative actions": {"relative_actions": True},
    "scale 11": tokens("fast", scale=11.0),
    "scale 44": tokens("fast", scale=44.0),
    "dct": tokens("dct"),
    "bspline": tokens("bspline"),
    "chunk 8": {"chunk_size": 8},
    "chunk 8, 4 executed": {"chunk_size": 8, "n_action_steps": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/peers"), help="that of peers.py")
    parser.add_argument("--task", default="so101_pick_place", choices=DEMOS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--samples", type=int, default=32_000, help="chunks of training")
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[0], help="of training; also pick the episodes"
    )
    parser.add_argument("--episodes", type=int, default=50, help="rollouts a training seed")
    parser.add_argument("--workers", type=int, default=2, help="cells at a time, one thread each")
    options = parser.parse_args()
    record(options.folder, options.task, DEMOS[options.task])
    with ProcessPoolExecutor(
        options.workers, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        jobs = {
            (name, seed): pool.submit(cell, options, name, seed)
            for seed in options.seeds
            for name in options.variants
        }
        print(
            "| autoregression | success [95 % Wilson] | NLL, nats/value | tokens a chunk |\n|---|---:|---:|---:|"
        )
        for name in options.variants:
            found = [jobs[name, seed].result() for seed in options.seeds]
            print(line(name, found), flush=True)


def line(name: str, found: list[dict[str, Any]]) -> str:
    """Return the row of a variant over its seeds."""
    successes, episodes = (sum(cell[key] for cell in found) for key in ("successes", "episodes"))
    low, high = wilson_interval(successes, episodes)
    nll = sum(cell["nll_nats_per_value"] for cell in found) / len(found)
    return f"| {name} | {successes}/{episodes} [{low:.0%}, {high:.0%}] | {nll:.3f} | {found[0]['tokens']} |"


def cell(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train and roll out one variant, unless that is on disk."""
    file = f"{name.replace(' ', '_')}_{options.samples}_{seed}.json"
    path: Path = options.folder / "tokens" / options.task / file
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    torch.set_num_threads(1)
    changes, root = VARIANTS[name], options.folder / "data" / options.task
    chunks, held_out = split(root, changes.get("chunk_size", HORIZON))
    steps = round(options.samples / BATCH)
    policy, _ = fit(make_learner("autoregressive", root, chunks, steps, seed, **changes), steps)
    policy.manual_seed(seed)
    found = rollout(
        rollout_env(root, chunks),
        policy,
        episodes=options.episodes,
        seed=FIRST_EPISODE + seed * options.episodes,
        batch_size=options.episodes,
    )
    result = {
        "variant": name,
        "seed": seed,
        "samples": options.samples,
        "episodes": options.episodes,
        "successes": found.successes,
        "tokens": policy.tokenizer.length,
        **likelihood(policy, held_out, seed),
    }
    write(path, result)
    return result


if __name__ == "__main__":
    main()
