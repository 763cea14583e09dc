"""One cell of the comparison with LeRobot's policies: a policy trained within a budget and rolled out.

The same for everybody: demonstrations and their split, chunks of 16 of which 8 are executed, batches of 64 from memory, a
cosine schedule over the budget, averaged weights, one torch thread, unseen episodes, the last weights.
"""

import dataclasses
import json
import os
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peer_policies import EXECUTED, HORIZON, PEERS, PeerData, make_peer
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from anyorder.commands.demo import DROPOUT, OBSERVATION_NOISE, REGULARISED
from anyorder.datasets.chunks import ActionChunks, Batch
from anyorder.datasets.origin import Origin
from anyorder.envs import EnvConfig
from anyorder.envs.rollout import chunk_latency_ms, rollout
from anyorder.errors import ConfigError, bad_value
from anyorder.factorization import FactorizationConfig
from anyorder.networks import TransformerConfig
from anyorder.policies import AnyOrderPolicy
from anyorder.training.config import DatasetConfig, OptimizerConfig, TrainConfig
from anyorder.training.data import BatchOrder, load_chunks, make_policy
from anyorder.training.evaluate import validate
from anyorder.training.loop import learning_rate, make_accelerator, optimise, ramped_average

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "autoregressive": ("autoregressive", {}),
    "k_order": ("autoregressive", {"orders": "fixed", "k": 16}),
    "masked_diffusion": ("masked_diffusion", {}),
    "gaussian_diffusion": ("gaussian_diffusion", {}),
    "regression": ("regression", {}),
    "mip": ("mip", {}),
}
BATCH = 64
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
        policy: one of ``OURS`` or ``PEERS``.
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
            raise ConfigError(bad_value("episodes", self.episodes, f"{found['episodes']}, as in {self.path}"))
        return found


def budget_of(text: str) -> tuple[str, float]:
    """Read a budget.

    >>> budget_of("samples=64000"), budget_of("seconds=30")
    (('samples', 64000.0), ('seconds', 30.0))
    """
    kind, _, amount = text.partition("=")
    if kind not in ("samples", "seconds") or not amount.replace(".", "", 1).isdigit() or not float(amount) > 0:
        raise ConfigError(bad_value("budget", text, "samples=N or seconds=S"))
    return kind, float(amount)


class Samples(Protocol):
    """Where training batches come from: ``ActionChunks``, or ``PeerData``."""

    @property
    def frames(self) -> int:
        """How many there are."""

    def batch(self, indices: Tensor) -> Batch:
        """Gather some."""


@dataclass
class Learner:
    """A fresh policy with all that its training needs."""

    model: Any
    optimizer: torch.optim.Optimizer
    samples: Samples
    config: TrainConfig
    begin: Callable[[float], None] = lambda progress: None


def make_learner(name: str, root: Path, chunks: ActionChunks, steps: int, seed: int, lr: float | None = None) -> Learner:
    """Make a policy of either house for a number of steps; ``lr`` replaces the chosen rate."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "dataset": DatasetConfig(root=str(root), allow_short=True),
        "chunk_size": HORIZON,
        "n_action_steps": EXECUTED,
        "steps": steps,
        "batch_size": BATCH,
        "seed": seed,
        "device": "cpu",
    }
    if name in OURS:
        family, options = OURS[name]
        regularised = family in REGULARISED
        optimizer = OptimizerConfig() if lr is None else OptimizerConfig(lr=lr)
        config = TrainConfig(
            factorization=FactorizationConfig.from_options(family, options),
            network=TransformerConfig(dropout=DROPOUT if regularised else 0.0),
            observation_noise=OBSERVATION_NOISE if regularised else 0.0,
            optimizer=optimizer,
            **common,
        )
        policy = make_policy(config, chunks)
        adamw = torch.optim.AdamW(
            policy.get_optim_params(),
            lr=optimizer.lr,
            betas=optimizer.betas,
            weight_decay=optimizer.weight_decay,
        )
        return Learner(policy, adamw, chunks, config, policy.factorization.begin)
    peer = make_peer(name, chunks, steps, lr)
    preset = peer.policy.config.get_optimizer_preset()
    config = TrainConfig(
        optimizer=OptimizerConfig(lr=preset.lr, grad_clip_norm=preset.grad_clip_norm), **common
    )
    adam = preset.build(peer.policy.get_optim_params())
    return Learner(peer, adam, PeerData(chunks, peer.policy.config), config)


def fit(learner: Learner, steps: int) -> tuple[Any, list[float]]:
    """Train for the first ``steps`` steps; return the averaged policy and the CPU seconds of every step."""
    config, seconds = learner.config, []
    accelerator = make_accelerator("cpu")
    order = BatchOrder(learner.samples.frames, config.batch_size, config.seed)
    average = AveragedModel(learner.model, multi_avg_fn=ramped_average(config.optimizer.ema_decay))
    peaks = [group["lr"] for group in learner.optimizer.param_groups]
    for step in range(steps):
        start = time.process_time()
        learner.begin(step / config.steps)
        rate = learning_rate(step, config.steps, config.optimizer) / config.optimizer.lr
        for group, peak in zip(learner.optimizer.param_groups, peaks, strict=True):
            group["lr"] = rate * peak
        batch = learner.samples.batch(order.rows(step))
        optimise(accelerator, learner.model, learner.optimizer, batch, config, step)
        average.update_parameters(learner.model)
        seconds.append(time.process_time() - start)
    average.module.eval()
    return average.module, seconds


def steps_within(cell: Cell, chunks: ActionChunks) -> int:
    """Return how many steps the budget pays for; a budget in seconds is divided by the time of a step.

    That time is the mean over a training of twenty steps, which is then thrown away; the first two, in which memory is
    allocated, do not count.
    """
    kind, amount = budget_of(cell.budget)
    if kind == "samples":
        return max(1, round(amount / BATCH))
    _, seconds = fit(make_learner(cell.policy, cell.data, chunks, TIMED_STEPS, cell.seed), TIMED_STEPS)
    return max(1, round(amount / (sum(seconds[2:]) / len(seconds[2:]))))


def split(root: Path) -> tuple[ActionChunks, ActionChunks]:
    """Return the training and the held-out episodes, the same for everybody."""
    return load_chunks(DatasetConfig(root=str(root), allow_short=True), HORIZON)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Train and roll out one cell, in a process of its own, and keep its result on disk."""
    torch.set_num_threads(1)
    chunks, held_out = split(cell.data)
    before = peak_mib()
    steps = steps_within(cell, chunks)
    learner = make_learner(cell.policy, cell.data, chunks, steps, cell.seed)
    policy, seconds = fit(learner, steps)
    memory = peak_mib() - before
    env = rollout_env(cell.data, chunks)
    latency = chunk_latency_ms(env, policy)
    torch.manual_seed(cell.seed)  # LeRobot's policies draw from torch's own generator
    if isinstance(policy, AnyOrderPolicy):
        policy.manual_seed(cell.seed)
    start = time.process_time()
    found = rollout(
        env,
        policy,
        episodes=cell.episodes,
        seed=FIRST_EPISODE + cell.seed * cell.episodes,
        batch_size=cell.episodes,
    )
    result = {
        "task": cell.task,
        "policy": cell.policy,
        "seed": cell.seed,
        "budget": cell.budget,
        "demos": chunks.episodes + held_out.episodes,
        "episodes": cell.episodes,
        "successes": found.successes,
        "mean_length": found.mean_length,
        "step_limit": env.build().unwrapped.max_episode_steps,  # type: ignore[attr-defined]
        "rollout_cpu_s": round(time.process_time() - start, 2),
        "steps": steps,
        "samples": steps * BATCH,
        "train_cpu_s": round(sum(seconds), 2),
        "samples_per_s": round(steps * BATCH / sum(seconds), 1),
        "lr": learner.config.optimizer.lr,
        "params": learner.model.trainable,
        "chunk_latency_ms": round(latency, 2),
        "training_memory_mib": round(memory, 1),
        "torch_threads": torch.get_num_threads(),
        **likelihood(policy, held_out, cell.seed),
    }
    write(cell.path, result)
    return result


def rollout_env(root: Path, chunks: ActionChunks) -> EnvConfig:
    """Return the recorded environment, its episodes at most ``LONGEST`` times as long as the longest demonstration."""
    origin = Origin.load(root)
    if origin is None:
        raise ConfigError(bad_value("data", str(root), "a dataset that anyorder recorded"))
    env: Any = origin.env_config()
    limit = round(LONGEST * int(chunks.lengths.max()))
    if hasattr(env, "max_episode_steps"):
        return dataclasses.replace(env, max_episode_steps=min(limit, env.max_episode_steps))
    return env


def likelihood(policy: nn.Module, held_out: ActionChunks, seed: int) -> dict[str, Any]:
    """Return the likelihood of the held-out episodes in nats per action value, where the policy has one."""
    if not isinstance(policy, AnyOrderPolicy):
        return {"nll_nats_per_value": None, "nll_is_exact": None}
    score = validate(policy, held_out, samples=NLL_DRAWS, limit=NLL_CHUNKS, seed=seed)
    return {"nll_nats_per_value": score.nll_nats_per_value, "nll_is_exact": score.exact}


@torch.no_grad()
def held_out_loss(name: str, root: Path, steps: int, lr: float) -> float:
    """Train a LeRobot policy and return its own loss on the held-out episodes; what learning rates are chosen by."""
    torch.set_num_threads(1)
    chunks, held_out = split(root)
    with torch.enable_grad():
        learner = make_learner(name, root, chunks, steps, 0, lr)
        policy, _ = fit(learner, steps)
    samples = PeerData(held_out, learner.model.policy.config)
    torch.manual_seed(0)
    parts = torch.arange(samples.frames).split(BATCH)
    losses = [policy(samples.batch(part))[0] * len(part) for part in parts for _ in range(4)]
    return float(sum(losses)) / samples.frames / 4


def peak_mib() -> float:
    """Return the most memory this process has held, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(path: Path, result: dict[str, Any]) -> None:
    """Write JSON so that a kill leaves the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial, path)
