"""Time of one chunk for one observation: our policies beside LeRobot's, in one run, by turns.

Every policy is trained for a few steps first, as those that guess tokens are faster once there is something to guess.
Chunks are those of the peers' comparison, 16 actions, drawn as each policy draws by default. One thread. CPU time is
what a call would take on an idle core. Prints Markdown: medians, and the middle half of the calls.
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench_loader import processor
from cells import record
from peer_cells import rollout_env
from peer_training import fit, make_trainee, split

from anyorder.envs.lerobot_names import to_batch
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import labels

TOKEN_BY_TOKEN = "autoregressive, token by token"
POLICIES = ("autoregressive", "masked_diffusion", "gaussian_diffusion", "regression", "mip", "act", "diffusion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench/latency"), help="where demonstrations are")
    parser.add_argument("--task", default="so101_pick_place", help="a preset of `anyorder record env=...`")
    parser.add_argument("--demos", type=int, default=50, help="demonstrations")
    parser.add_argument("--steps", type=int, default=100, help="training steps of each policy")
    parser.add_argument("--calls", type=int, default=20, help="chunks to time")
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), help="of the peers' comparison")
    options = parser.parse_args()
    torch.set_num_threads(1)
    record(options.folder, options.task, options.demos)
    root = options.folder / "data" / options.task
    policies = {name: trained(name, root, options.steps) for name in options.policies}
    observation = first_observation(root)
    asked: dict[str, Callable[[], Any]] = {name: ask(policy, observation) for name, policy in policies.items()}
    if "autoregressive" in policies:
        asked[TOKEN_BY_TOKEN] = ask(policies["autoregressive"], observation, lookahead=1)
    print(f"{processor()}, 1 thread, {datetime.date.today()}, {options.steps} training steps\n")
    print("| policy | parameters | calls | CPU ms | middle half | wall ms |")
    print("|---|---:|---:|---:|---:|---:|")
    cpu, wall = measured(asked, options.calls)
    for name in asked:
        policy = policies[name if name in policies else "autoregressive"]
        low, middle, high = statistics.quantiles(cpu[name], n=4)
        size = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        print(
            f"| {name} | {size:,} | {calls(policy, asked[name])} | {middle:.1f} | {low:.1f} to {high:.1f} |"
            f" {statistics.median(wall[name]):.1f} |"
        )


def trained(name: str, root: Path, steps: int) -> Any:
    """Return a policy of either house after some steps of training."""
    chunks, _ = split(root, name)
    policy, _ = fit(make_trainee(name, root, chunks, steps, seed=0), steps)
    return policy


def first_observation(root: Path) -> dict[str, Any]:
    """Return what the environment of a dataset shows at the beginning, as a batch of one."""
    chunks, _ = split(root, "regression")
    env = rollout_env(root, chunks).build()
    try:
        batch: dict[str, Any] = to_batch([[env.reset(seed=0)[0]]])
        return batch | labels([env], range(1))
    finally:
        env.close()


def ask(policy: Any, observation: dict[str, Any], lookahead: int | None = None) -> Callable[[], Any]:
    """Return a function that predicts a chunk, the first of an episode."""

    def predict() -> Any:
        policy.reset()
        if isinstance(policy, AnyOrderPolicy) and hasattr(policy.factorization, "lookahead"):
            policy.factorization.lookahead = lookahead
        return policy.predict_action_chunk(observation)

    return predict


def measured(asked: dict[str, Callable[[], Any]], calls: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return milliseconds of every call by name, CPU and wall; the policies take turns, and the first turn warms up."""
    cpu: dict[str, list[float]] = {name: [] for name in asked}
    wall: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(calls + 1):
        for name, predict in asked.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            predict()
            if turn:
                cpu[name].append(1000 * (time.process_time() - cpu_start))
                wall[name].append(1000 * (time.perf_counter() - start))
    return cpu, wall


def calls(policy: Any, predict: Callable[[], Any]) -> str:
    """Return how often the network is asked for a chunk; a dash for LeRobot's policies, which do not say."""
    if not isinstance(policy, AnyOrderPolicy):
        return "-"
    before = policy.calls
    predict()
    return str(policy.calls - before)


if __name__ == "__main__":
    main()
