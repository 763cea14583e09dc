"""One cell of the comparison with LeRobot's policies: a policy trained within a budget, rolled out, its result kept."""

import dataclasses
import json
import os
import resource
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from peer_training import BATCH, fit, held_out_loss, make_trainee, split
from torch import nn

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.write.origin import Origin
from anyorder.envs import EnvConfig
from anyorder.errors import ConfigError
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import chunk_latency_ms, rollout
from anyorder.training.evaluate import validate

FIRST_EPISODE = 1_000_000
TIMED_STEPS = 20
LONGEST = 2.0
"""Rollouts last at most so many times the longest demonstration."""
NLL_DRAWS, NLL_CHUNKS = 8, 256


@dataclass(frozen=True)
class Cell:
    """One policy on one task with one training seed.

    Attributes:
        folder: of the comparison.
        task: a preset of ``anyorder record env=...``.
        policy: one of ``OURS``, ``VARIANTS`` or ``PEERS``.
        seed: of initialisation, data order, losses and sampling; also picks the episodes.
        budget: ``samples=N`` or ``seconds=S``.
        episodes: rollouts.
    """

    folder: Path
    task: str
    policy: str
    seed: int
    budget: str
    episodes: int

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        return self.folder / self.budget / self.task / f"{self.policy}_{self.seed}.json"

    @property
    def data(self) -> Path:
        """The demonstrations."""
        return self.folder / "data" / self.task

    def result(self) -> dict[str, Any] | None:
        """Return the result, or None before there is one.

        Raises:
            ConfigError: it is one of another number of episodes.
        """
        if not self.path.is_file():
            return None
        found: dict[str, Any] = json.loads(self.path.read_text())
        if found["episodes"] != self.episodes:
            raise ConfigError("episodes", self.episodes, f"{found['episodes']}, as in {self.path}")
        return found


def budget_of(text: str) -> tuple[str, float]:
    """Read a budget.

    >>> budget_of("samples=64000"), budget_of("seconds=30")
    (('samples', 64000.0), ('seconds', 30.0))
    """
    kind, _, amount = text.partition("=")
    if kind not in ("samples", "seconds") or not amount.replace(".", "", 1).isdigit() or not float(amount) > 0:
        raise ConfigError("budget", text, "samples=N or seconds=S")
    return kind, float(amount)


def steps_within(cell: Cell, chunks: ActionChunks) -> int:
    """Return how many steps the budget pays for; a budget in seconds is divided by the time of a step.

    That time is taken from a training of twenty steps, which is then thrown away; the first two of it, in which memory
    is allocated, do not count, nor those of VQ-BeT's second phase. Phases count in proportion to their steps.
    """
    kind, amount = budget_of(cell.budget)
    if kind == "samples":
        return max(1, round(amount / BATCH))
    trainee = make_trainee(cell.policy, cell.data, chunks, TIMED_STEPS, cell.seed)
    _, seconds = fit(trainee, TIMED_STEPS)
    codes, rest = seconds[: trainee.code_steps], seconds[trainee.code_steps :]
    step_s = sum(mean(phase[2:]) * len(phase) for phase in (codes, rest) if phase) / TIMED_STEPS
    return max(1, round(amount / step_s))


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and roll out one cell, in a process of its own, and keep its result on disk."""
    with redirect_stdout(StringIO()):  # LeRobot prints
        result = work(cell)
    write(cell.path, result)
    return result


def work(cell: Cell) -> dict[str, Any]:
    """Train and roll out one cell."""
    torch.set_num_threads(1)
    chunks, held_out = split(cell.data, cell.policy)
    before = peak_mib()
    steps = steps_within(cell, chunks)
    trainee = make_trainee(cell.policy, cell.data, chunks, steps, cell.seed)
    policy, seconds = fit(trainee, steps)
    memory = peak_mib() - before
    env = rollout_env(cell.data, chunks)
    latency = chunk_latency_ms(env, policy, clock=time.process_time)
    torch.manual_seed(cell.seed)  # LeRobot's policies draw from torch's own generator
    if isinstance(policy, AnyOrderPolicy):
        policy.manual_seed(cell.seed)
    start = time.process_time()
    found = rollout(
        env, policy, episodes=cell.episodes, seed=FIRST_EPISODE + cell.seed * cell.episodes, batch_size=cell.episodes
    )
    return {
        "task": cell.task,
        "policy": cell.policy,
        "seed": cell.seed,
        "budget": cell.budget,
        "demos": chunks.episodes + held_out.episodes,
        "episodes": cell.episodes,
        "successes": found.successes,
        "outcomes": [episode.success for episode in found.episodes],
        "mean_length": found.mean_length,
        "mean_max_reward": found.mean_max_reward,
        "step_limit": step_limit(env),
        "rollout_cpu_s": round(time.process_time() - start, 2),
        "steps": steps,
        "samples": steps * BATCH,
        "train_cpu_s": round(sum(seconds), 2),
        "samples_per_s": round(steps * BATCH / sum(seconds), 1),
        "lr": trainee.learner.schedule.optimizer.lr,
        "params": trainee.learner.policy.trainable,
        "chunk_latency_ms": round(latency, 2),
        "training_memory_mib": round(memory, 1),
        "torch_threads": torch.get_num_threads(),
        **likelihood(policy, held_out, cell.seed),
    }


def rollout_env(root: Path, chunks: ActionChunks) -> EnvConfig:
    """Return the recorded environment, its episodes at most ``LONGEST`` times as long as the longest demonstration."""
    origin = Origin.load(root)
    if origin is None:
        raise ConfigError("data", str(root), "a dataset that anyorder recorded")
    env: Any = origin.env_config()
    limit = round(LONGEST * int(chunks.lengths.max()))
    if hasattr(env, "max_episode_steps"):
        return dataclasses.replace(env, max_episode_steps=min(limit, step_limit(env)))
    return env


def step_limit(env_config: EnvConfig) -> int:
    """Return the most steps of an episode."""
    env = env_config.build()
    limit: int = env.unwrapped.max_episode_steps  # type: ignore[attr-defined]
    env.close()
    return limit


def sweep_cell(folder: Path, task: str, policy: str, steps: int, lr: float) -> float:
    """Return a LeRobot policy's loss on the held-out episodes after training at a learning rate; keep it on disk."""
    path = folder / "sweep" / task / f"{policy}_{steps}_{lr:g}.json"
    if not path.is_file():
        with redirect_stdout(StringIO()):
            loss = held_out_loss(policy, folder / "data" / task, steps, lr)
        write(path, {"task": task, "policy": policy, "steps": steps, "lr": lr, "held_out_loss": loss})
    return float(json.loads(path.read_text())["held_out_loss"])


def likelihood(policy: nn.Module, held_out: ActionChunks, seed: int) -> dict[str, Any]:
    """Return the likelihood of the held-out episodes in nats per action value, where the policy has one."""
    if not isinstance(policy, AnyOrderPolicy):
        return {"nll_nats_per_value": None, "nll_is_exact": None}
    score = validate(policy, held_out, samples=NLL_DRAWS, limit=NLL_CHUNKS, seed=seed)
    return {"nll_nats_per_value": score.nll_nats_per_value, "nll_is_exact": score.exact}


def peak_mib() -> float:
    """Return the most memory this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, result: dict[str, Any]) -> None:
    """Write JSON so that a kill leaves the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)
