"""What makes a LeRobot policy trainable by our loop and lets it act in our rollouts."""

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from torch import Tensor, nn

from anyorder.datasets.read.chunks import ActionChunks, Batch
from anyorder.datasets.read.episodes import gather, window

NO_IMAGE = "observation.image"
"""Name of the image that VQ-BeT demands and that does not exist."""


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
        self, batch: Batch, generator: torch.Generator | None = None, progress: float | None = None
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


def merge(batch: Batch) -> Batch:
    """Return the batch with the environment state appended to ``observation.state``."""
    merged = dict(batch)
    if OBS_ENV_STATE in merged:
        merged[OBS_STATE] = torch.cat([merged[OBS_STATE], merged.pop(OBS_ENV_STATE)], -1)
    return merged


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

    def _window(self, key: str, rows: Tensor, offsets: list[int]) -> tuple[Tensor, Tensor]:
        """Return a feature at offsets from the rows, (B, offsets, size), and where that left the episode."""
        chunks = self.chunks
        steps, left = window(rows, torch.tensor(offsets), chunks.begins, chunks.ends)
        return gather(chunks.columns[key], steps), left
