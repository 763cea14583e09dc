"""LeRobot's own policies (0.6.1) behind the interfaces of our training loop and rollouts.

What is theirs: the policy class, its loss, its pre- and postprocessors, its class of optimiser with betas and weight
decay, the frames it leaves out at the end of an episode, its observation history and its ``select_action``. What is
ours, and the same for everybody: batches from memory, learning-rate schedule, averaged weights, budget.

Sizes are small enough for a CPU, and with them the learning rates are higher than the presets (1e-5 to 1e-4). Each rate
was chosen once from 3e-4, 1e-3 and 3e-3 by the policy's own loss on the held-out episodes of one task, see
``peers.py --sweep``.
"""

import tempfile
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from anyorder.datasets.chunks import ActionChunks, Batch
from anyorder.datasets.statistics import Statistics

HORIZON = 16
"""Actions in a chunk, for every policy but VQ-BeT, whose chunks are executed to their end."""
EXECUTED = 8
"""Actions executed before the next chunk, for every policy."""
NO_IMAGE = "observation.image"
STILL = 1e-6
"""A dimension whose range is below this part of its size counts as constant."""
UNSEEN = 1e6
"""Range given to constant observations."""


@dataclass(frozen=True)
class PeerSettings:
    """How a LeRobot policy is set.

    Attributes:
        options: of its config class.
        lr: peak learning rate.
        merged: the policy reads ``observation.state`` alone, so the environment state is appended to it.
        vq_share: part of the training steps that fit VQ-BeT's codes.
    """

    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    merged: bool = False
    vq_share: float = 0.0


PEERS = {
    "act": PeerSettings(
        {
            "chunk_size": HORIZON,
            "n_action_steps": EXECUTED,
            "dim_model": 128,
            "dim_feedforward": 512,
            "n_heads": 4,
            "n_encoder_layers": 2,
            "n_vae_encoder_layers": 2,
        }
    ),
    "diffusion": PeerSettings(
        {
            "horizon": HORIZON,
            "n_action_steps": EXECUTED,
            "down_dims": (64, 128, 256),
            "noise_scheduler_type": "DDIM",
            "num_inference_steps": 10,
        }
    ),
    "vqbet": PeerSettings(
        {
            "action_chunk_size": EXECUTED,
            "crop_shape": None,
            "pretrained_backbone_weights": None,
            "gpt_input_dim": 128,
            "gpt_output_dim": 128,
            "gpt_hidden_dim": 128,
            "gpt_n_layer": 4,
            "gpt_n_head": 4,
        },
        merged=True,
        vq_share=0.2,
    ),
    "multi_task_dit": PeerSettings(
        {
            "horizon": HORIZON,
            "n_action_steps": EXECUTED,
            "objective": "flow_matching",
            "num_integration_steps": 10,
            "hidden_dim": 128,
            "num_layers": 4,
            "num_heads": 4,
            "timestep_embed_dim": 128,
        },
        merged=True,
    ),
}


class Peer(nn.Module):
    """A LeRobot policy with its processors: trained like ``AnyOrderPolicy``, rolled out one step at a time.

    In rollouts it asks for the observation of every step, as its history needs, and answers with its own
    ``select_action``; when episodes end, the queues inside the policy lose these rows.

    Args:
        policy: LeRobot's.
        processors: its pre- and postprocessor.
        merged: see ``PeerSettings``.
    """

    n_action_steps = 1

    def __init__(self, policy: PreTrainedPolicy, processors: tuple[Any, Any], merged: bool) -> None:
        super().__init__()
        self.policy = policy
        self.preprocess, self.postprocess = processors
        self.merged = merged
        self.reset()

    def forward(
        self, batch: Batch, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Any] | None]:
        """Return the policy's own loss; it draws from torch's generator, whatever ``generator`` is."""
        loss, numbers = self.policy.forward(self.preprocess(self.inputs(batch)))
        return loss, numbers

    def inputs(self, batch: Batch) -> Batch:
        """Return the batch as the policy reads it: merged, and with an image of zeros where one is demanded."""
        read = merge(batch) if self.merged else dict(batch)
        if NO_IMAGE in (self.policy.config.input_features or {}):
            read[NO_IMAGE] = torch.zeros(*read[OBS_STATE].shape[:-1], 3, 1, 1)
        return read

    def reset(self) -> None:
        """Forget the episodes so far."""
        self.policy.reset()
        self._episodes: list[int] = []

    @torch.no_grad()
    def predict_action_chunk(self, batch: Batch) -> Tensor:
        """Return the next action of every running episode, (B, 1, A), in the environment's units.

        ``batch`` is that of ``rollout``; ``episode_index`` tells which episodes are left.
        """
        self.eval()
        observed = dict(batch)
        episodes = observed.pop("episode_index").tolist()
        if self._episodes and episodes != self._episodes:
            self._keep(torch.tensor([self._episodes.index(episode) for episode in episodes]))
        self._episodes = episodes
        action: Tensor = self.policy.select_action(self.preprocess(self.inputs(observed)))
        return self.postprocess(action).unsqueeze(1)

    def _keep(self, rows: Tensor) -> None:
        """Keep some rows of all that the policy remembers."""
        for queue in queues(self.policy):
            for i, entry in enumerate(queue):
                queue[i] = entry[rows]

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def queues(policy: PreTrainedPolicy) -> list[deque[Tensor]]:
    """Return the queues of past observations and coming actions inside a LeRobot policy."""
    if hasattr(policy, "_queues"):
        return list(policy._queues.values())
    return [policy._action_queue]


class NoImage(nn.Module):
    """In place of VQ-BeT's image encoder, which it cannot be made without: zeros (B, size).

    Its image token is then a learnt constant, which is what a ResNet makes of a constant image, without the cost.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.feature_dim = size

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, ...) to zeros."""
        return torch.zeros(len(images), self.feature_dim)


def make_peer(name: str, chunks: ActionChunks, steps: int, lr: float | None = None) -> Peer:
    """Make a fresh LeRobot policy for a dataset.

    Args:
        name: one of ``PEERS``.
        chunks: the training episodes, whose exact statistics normalise.
        steps: of the whole training.
        lr: peak learning rate instead of the chosen one.
    """
    settings = PEERS[name]
    options = dict(settings.options)
    if settings.vq_share:
        options["n_vqvae_training_steps"] = max(1, round(settings.vq_share * steps))
    columns = merge(chunks.columns) if settings.merged else chunks.columns
    observed = {key: columns[key] for key in (OBS_STATE, OBS_ENV_STATE) if key in columns}
    features = {key: feature(key, values.shape[1:]) for key, values in observed.items()}
    if name == "vqbet":
        features[NO_IMAGE] = PolicyFeature(FeatureType.VISUAL, (3, 64, 64))
    with tempfile.TemporaryDirectory() as folder:
        if name == "multi_task_dit":
            options["text_encoder_name"] = str(small_clip(Path(folder) / "clip"))
        config = make_policy_config(
            name,
            input_features=features,
            output_features={ACTION: PolicyFeature(FeatureType.ACTION, chunks.shapes[ACTION])},
            device="cpu",
            push_to_hub=False,
            optimizer_lr=lr or settings.lr,
            **options,
        )
        # LeRobot leaves the environment state raw unless told.
        config.normalization_mapping["ENV"] = config.normalization_mapping["STATE"]
        policy = get_policy_class(name)(config)
        processors = make_pre_post_processors(config, dataset_stats=statistics(observed, columns[ACTION]))
    if name == "vqbet":
        policy.vqbet.rgb_encoder = NoImage(policy.vqbet.rgb_encoder.feature_dim)
    return Peer(policy, processors, settings.merged)


def merge(batch: Batch) -> Batch:
    """Return the batch with the environment state appended to ``observation.state``."""
    merged = dict(batch)
    if OBS_ENV_STATE in merged:
        merged[OBS_STATE] = torch.cat([merged[OBS_STATE], merged.pop(OBS_ENV_STATE)], -1)
    return merged


def feature(name: str, shape: tuple[int, ...]) -> PolicyFeature:
    """Return LeRobot's description of a low-dimensional observation."""
    return PolicyFeature(FeatureType.ENV if name == OBS_ENV_STATE else FeatureType.STATE, tuple(shape))


def statistics(observed: dict[str, Tensor], actions: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Return exact statistics for LeRobot's normalisers.

    They divide by the range or the standard deviation, plus 1e-8: an observation that is constant in the demonstrations
    and moves in a rollout would become a number of 1e7. Constant observations get a range so wide that they read as 0,
    which is what our own normaliser does.
    """
    found = {key: Statistics.of(values.numpy()).as_lerobot() for key, values in observed.items()}
    for numbers in found.values():
        still = numbers["max"] - numbers["min"] <= STILL * np.maximum(1.0, np.abs(numbers["mean"]))
        numbers["min"] = np.where(still, numbers["mean"] - UNSEEN, numbers["min"])
        numbers["max"] = np.where(still, numbers["mean"] + UNSEEN, numbers["max"])
        numbers["std"] = np.where(still, UNSEEN, numbers["std"])
    return {**found, ACTION: Statistics.of(actions.numpy()).as_lerobot()}


def small_clip(folder: Path) -> Path:
    """Write a random one-layer CLIP text model over single bytes, which multi_task_dit cannot be made without.

    With one task a dataset its output is a constant, so what it has learnt does not matter.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    start, end = len(tokens) - 2, len(tokens) - 1
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    CLIPTextModel(config).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class PeerData:
    """Training batches with the observation history and the horizon of a LeRobot policy, gathered from memory.

    They are those of LeRobot's loader: steps outside the episode repeat its first or last frame, and ``action_is_pad``
    marks them.
    """

    chunks: ActionChunks
    config: PreTrainedConfig

    @property
    def frames(self) -> int:
        """Return from how many frames a training sample may start."""
        return len(self._rows)

    @cached_property
    def _rows(self) -> Tensor:
        """Return the frames that the policy's settings do not leave out at the end of an episode."""
        left_out = getattr(self.config, "drop_n_last_frames", 0)
        rows = torch.arange(self.chunks.frames)
        return rows[rows < self.chunks.ends - left_out]

    def batch(self, picked: Tensor) -> Batch:
        """Gather training samples, numbers below ``frames``."""
        rows = self._rows[picked]
        columns = self.chunks.columns
        batch: Batch = {}
        for key in (OBS_STATE, OBS_ENV_STATE):
            if key in columns:
                history = self.config.observation_delta_indices
                batch[key] = columns[key][rows] if history is None else self._window(key, rows, history)[0]
        batch[ACTION], batch["action_is_pad"] = self._window(ACTION, rows, self.config.action_delta_indices)
        batch["task"] = [self.chunks.tasks[task] for task in columns["task_index"][rows].tolist()]
        return batch

    @cached_property
    def _starts(self) -> Tensor:
        """Return the first frame of every frame's episode."""
        return torch.repeat_interleave(self.chunks.starts, self.chunks.lengths)

    def _window(self, key: str, rows: Tensor, offsets: list[int]) -> tuple[Tensor, Tensor]:
        """Return a feature at offsets from the rows, (B, offsets, size), and where that left the episode."""
        starts = self._starts[rows][:, None]
        last = self.chunks.ends[rows][:, None] - 1
        steps = rows[:, None] + torch.tensor(offsets)
        return self.chunks.columns[key][steps.clamp(starts, last)], (steps < starts) | (steps > last)
