"""Training of LeRobot's policies and ours in one loop, from the same samples.

The same for everybody: demonstrations and their split, chunks of 16 of which 8 are executed, batches of 64 from memory,
a cosine schedule over the budget, averaged weights, one torch thread.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, override

import torch
from peer_adapter import PeerData
from peer_policies import EXECUTED, HORIZON, make_peer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from anyorder.datasets.read.chunks import ActionChunks, Batch
from anyorder.factorization import FactorizationConfig
from anyorder.networks import HeadConfig, TransformerConfig
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import DatasetConfig, OptimizerConfig, TrainConfig
from anyorder.training.data import load_chunks
from anyorder.training.fresh import make_policy
from anyorder.training.learner import Learner
from anyorder.training.optimizer import Schedule, ramped_average
from anyorder.training.order import BatchOrder


def ours(family: str, **changes: Any) -> dict[str, Any]:
    """Return settings of ``TrainConfig`` for a family; everything but the family is the same for all."""
    return {
        "factorization": FactorizationConfig.named(family, **(changes.pop("options", {}))),
        "tokenizer": tokens("dct"),
        "chunk_size": HORIZON,
        "n_action_steps": EXECUTED,
        **changes,
    }


def tokens(name: str, **options: Any) -> TokenizerConfig:
    return TokenizerConfig.named(name, **options)


OURS = {
    "autoregressive": ours("autoregressive"),
    "k_order": ours("autoregressive", options={"orders": "fixed", "k": 16}),
    "masked_diffusion": ours("masked_diffusion"),
    "gaussian_diffusion": ours("gaussian_diffusion"),
    "regression": ours("regression"),
    "mip": ours("mip"),
}
VARIANTS = {
    "next_frequency": ours("next_frequency"),
    "independent": ours("independent"),
    "ar_softmax": ours("autoregressive", head=HeadConfig("categorical")),
    "masked_softmax": ours("masked_diffusion", head=HeadConfig("categorical")),
    "ar_dropout_0.05": ours("autoregressive", network=TransformerConfig(dropout=0.05), observation_noise=0.01),
    "ar_lr_0.001": ours("autoregressive", optimizer=OptimizerConfig(lr=0.001)),
    "ar_lr_0.01": ours("autoregressive", optimizer=OptimizerConfig(lr=0.01)),
    "ar_relative": ours("autoregressive", relative_actions=True),
    "ar_scale_11": ours("autoregressive", tokenizer=tokens("dct", scale=11.0)),
    "ar_scale_44": ours("autoregressive", tokenizer=tokens("dct", scale=44.0)),
    "ar_fast": ours("autoregressive", tokenizer=tokens("fast")),
    "ar_bspline": ours("autoregressive", tokenizer=tokens("bspline")),
    "ar_chunk_8": ours("autoregressive", chunk_size=8),
    "ar_chunk_8_execute_4": ours("autoregressive", chunk_size=8, n_action_steps=4),
}
"""Other settings of the token families, to find out why they lose where they do."""
BATCH = 64


class Samples(Protocol):
    """Where training batches come from: ``ActionChunks``, or ``PeerData``."""

    @property
    def frames(self) -> int:
        """How many there are."""

    def batch(self, indices: Tensor) -> Batch:
        """Gather some."""


@dataclass(frozen=True)
class PeerSchedule(Schedule):
    """The schedule of everybody, after the steps that first fit VQ-BeT's codes.

    Attributes:
        code_steps: how many these are; their rate is constant, as in LeRobot's own schedule.
    """

    code_steps: int = 0

    @override
    def rate(self, step: int, peak: float) -> float:
        rest = step - self.code_steps
        if rest < 0:
            return peak
        lr = self.optimizer.lr
        return Schedule(self.optimizer, self.steps - self.code_steps, self.seed).rate(rest, lr) / lr * peak


@dataclass
class Trainee:
    """A fresh policy with all that its training needs.

    Attributes:
        learner: trains it.
        samples: what it learns from.
        batch_size: how many of them a step sees.
        code_steps: how many steps first fit VQ-BeT's codes.
    """

    learner: Learner
    samples: Samples
    batch_size: int
    code_steps: int


def make_trainee(
    name: str, root: Path, chunks: ActionChunks, steps: int, seed: int, lr: float | None = None
) -> Trainee:
    """Make a policy of either house for a number of steps; ``lr`` replaces the rate chosen for one of LeRobot's."""
    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "dataset": DatasetConfig(root=str(root), allow_short=True),
        "steps": steps,
        "batch_size": BATCH,
        "seed": seed,
        "device": "cpu",
    }
    settings = OURS.get(name) or VARIANTS.get(name)
    if settings is not None:
        config = TrainConfig(**common, **settings)
        policy = make_policy(config, chunks)
        adamw = torch.optim.AdamW(
            policy.get_optim_params(),
            lr=config.optimizer.lr,
            betas=config.optimizer.betas,
            weight_decay=config.optimizer.weight_decay,
        )
        return trainee(policy, adamw, chunks, config)
    peer = make_peer(name, chunks, steps, lr)
    preset = peer.policy.config.get_optimizer_preset()
    config = TrainConfig(
        optimizer=OptimizerConfig(lr=preset.lr, grad_clip_norm=preset.grad_clip_norm),
        chunk_size=HORIZON,
        n_action_steps=EXECUTED,
        **common,
    )
    adam = preset.build(peer.policy.get_optim_params())
    data = PeerData(chunks, peer.policy.config)
    return trainee(peer, adam, data, config, getattr(peer.policy.config, "n_vqvae_training_steps", 0))


def trainee(
    model: Any, optimizer: torch.optim.Optimizer, samples: Samples, config: TrainConfig, code_steps: int = 0
) -> Trainee:
    """Return a model with its learner."""
    average = AveragedModel(model, multi_avg_fn=ramped_average(config.optimizer.ema_decay))
    schedule = PeerSchedule(config.optimizer, config.steps, config.seed, code_steps)
    return Trainee(Learner(model, optimizer, average, schedule), samples, config.batch_size, code_steps)


def fit(trained: Trainee, steps: int) -> tuple[Any, list[float]]:
    """Train for the first ``steps`` steps; return the averaged policy and the CPU seconds of every step."""
    learner, seconds = trained.learner, []
    order = BatchOrder(trained.samples.frames, trained.batch_size, learner.schedule.seed)
    for step in range(steps):
        start = time.process_time()
        learner.advance(trained.samples.batch(order.rows(step)), step)
        seconds.append(time.process_time() - start)
    learner.average.module.eval()
    return learner.average.module, seconds


def split(root: Path, name: str) -> tuple[ActionChunks, ActionChunks]:
    """Return the training and the held-out episodes, the same for everybody, in chunks as a policy predicts them."""
    horizon = VARIANTS.get(name, {}).get("chunk_size", HORIZON)
    return load_chunks(DatasetConfig(root=str(root), allow_short=True), horizon)


@torch.no_grad()
def held_out_loss(name: str, root: Path, steps: int, lr: float) -> float:
    """Train a LeRobot policy and return its own loss on the held-out episodes; what learning rates are chosen by."""
    torch.set_num_threads(1)
    chunks, held_out = split(root, name)
    with torch.enable_grad():
        trained = make_trainee(name, root, chunks, steps, 0, lr)
        policy, _ = fit(trained, steps)
    samples = PeerData(held_out, trained.learner.policy.policy.config)
    torch.manual_seed(0)
    parts = torch.arange(samples.frames).split(BATCH)
    losses = [policy(samples.batch(part))[0] * len(part) for part in parts for _ in range(4)]
    return float(sum(losses)) / samples.frames / 4
