"""Training of LeRobot's policies and ours in one loop, from the same samples.

The same for everybody: demonstrations and their split, chunks of 16 of which 8 are executed, batches of 64 from memory,
a cosine schedule over the budget, averaged weights, one torch thread.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from peer_adapter import PeerData
from peer_policies import EXECUTED, HORIZON, make_peer
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from anyorder.commands.demo import DROPOUT, OBSERVATION_NOISE, REGULARIZED
from anyorder.datasets.read.chunks import ActionChunks, Batch
from anyorder.factorization import FactorizationConfig
from anyorder.networks import TransformerConfig
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import DatasetConfig, OptimizerConfig, TrainConfig
from anyorder.training.data import load_chunks, make_policy
from anyorder.training.loop import make_accelerator
from anyorder.training.optimise import learning_rate, optimise, ramped_average
from anyorder.training.order import BatchOrder


def ours(family: str, **changes: Any) -> dict[str, Any]:
    """Return settings of ``TrainConfig`` for a family; autoregression alone is regularised, as in the demo."""
    regularised = family in REGULARIZED
    return {
        "factorization": FactorizationConfig.named(family, **changes.pop("options", {})),
        "network": TransformerConfig(dropout=DROPOUT if regularised else 0.0),
        "observation_noise": OBSERVATION_NOISE if regularised else 0.0,
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
    "ar_unregularised": ours("autoregressive", network=TransformerConfig(), observation_noise=0.0),
    "ar_dropout_0.2": ours("autoregressive", network=TransformerConfig(dropout=0.2)),
    "ar_noise_0.03": ours("autoregressive", observation_noise=0.03),
    "ar_lr_0.001": ours("autoregressive", optimizer=OptimizerConfig(lr=0.001)),
    "ar_lr_0.01": ours("autoregressive", optimizer=OptimizerConfig(lr=0.01)),
    "ar_relative": ours("autoregressive", relative_actions=True),
    "ar_scale_11": ours("autoregressive", tokenizer=tokens("fast", scale=11.0)),
    "ar_scale_44": ours("autoregressive", tokenizer=tokens("fast", scale=44.0)),
    "ar_dct": ours("autoregressive", tokenizer=tokens("dct")),
    "ar_bspline": ours("autoregressive", tokenizer=tokens("bspline")),
    "ar_chunk_8": ours("autoregressive", chunk_size=8),
    "ar_chunk_8_execute_4": ours("autoregressive", chunk_size=8, n_action_steps=4),
    "independent_dct": ours("independent", tokenizer=tokens("dct")),
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


@dataclass
class Learner:
    """A fresh policy with all that its training needs.

    Attributes:
        code_steps: how many steps first fit VQ-BeT's codes, at a constant rate as in LeRobot's own schedule.
    """

    model: Any
    optimizer: torch.optim.Optimizer
    samples: Samples
    config: TrainConfig
    code_steps: int = 0


def make_learner(
    name: str, root: Path, chunks: ActionChunks, steps: int, seed: int, lr: float | None = None
) -> Learner:
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
        return Learner(policy, adamw, chunks, config)
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
    return Learner(
        peer, adam, data, config, code_steps=getattr(peer.policy.config, "n_vqvae_training_steps", 0)
    )


def fit(learner: Learner, steps: int) -> tuple[Any, list[float]]:
    """Train for the first ``steps`` steps; return the averaged policy and the CPU seconds of every step."""
    config, seconds = learner.config, []
    accelerator = make_accelerator("cpu")
    order = BatchOrder(learner.samples.frames, config.batch_size, config.seed)
    average = AveragedModel(learner.model, multi_avg_fn=ramped_average(config.optimizer.ema_decay))
    peaks = [group["lr"] for group in learner.optimizer.param_groups]
    for step in range(steps):
        start = time.process_time()
        rest = step - learner.code_steps
        rate = 1.0
        if rest >= 0:
            rate = (
                learning_rate(rest, config.steps - learner.code_steps, config.optimizer) / config.optimizer.lr
            )
        for group, peak in zip(learner.optimizer.param_groups, peaks, strict=True):
            group["lr"] = rate * peak
        batch = learner.samples.batch(order.rows(step))
        optimise(accelerator, learner.model, learner.optimizer, batch, config, step)
        average.update_parameters(learner.model)
        seconds.append(time.process_time() - start)
    average.module.eval()
    return average.module, seconds


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
        learner = make_learner(name, root, chunks, steps, 0, lr)
        policy, _ = fit(learner, steps)
    samples = PeerData(held_out, learner.model.policy.config)
    torch.manual_seed(0)
    parts = torch.arange(samples.frames).split(BATCH)
    losses = [policy(samples.batch(part))[0] * len(part) for part in parts for _ in range(4)]
    return float(sum(losses)) / samples.frames / 4
