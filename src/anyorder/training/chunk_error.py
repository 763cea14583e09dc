"""How far predicted chunks are from what was demonstrated."""

from dataclasses import dataclass

import torch
from lerobot.utils.constants import ACTION

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.policies import AnyOrderPolicy
from anyorder.training.evaluate import clustered_error, evenly_spread
from anyorder.training.score import EVAL_BATCH


@dataclass(frozen=True)
class ChunkError:
    """Mean absolute error of predicted chunks on held-out episodes, beside two predictors that learn nothing.

    The unit is half the range that each action dimension has in the training episodes; dimensions that never change
    there are left out. So one held-out episode in which a joint hardly moves does not make its errors large.

    Attributes:
        policy: of the policy, sampling as it acts.
        hold: of repeating the last action before the chunk.
        constant_velocity: of moving on as between the last two actions, within the ranges of the training episodes.
        standard_error: of ``policy``, between episodes; None with one episode.
        chunks: how many were compared: those with two actions before them.
    """

    policy: float
    hold: float
    constant_velocity: float
    standard_error: float | None
    chunks: int

    def metrics(self) -> dict[str, float]:
        """Return the numbers under their names in ``metrics.jsonl``."""
        found = {
            "chunk_error": self.policy,
            "chunk_error_hold": self.hold,
            "chunk_error_constant_velocity": self.constant_velocity,
        }
        spread = self.standard_error
        return found if spread is None else {**found, "chunk_error_standard_error": spread}


@torch.no_grad()
def chunk_error(
    policy: AnyOrderPolicy, chunks: ActionChunks, *, train: ActionChunks, limit: int, seed: int
) -> ChunkError | None:
    """Compare predicted chunks, at most ``limit``, evenly spread, with what was demonstrated.

    Steps past an episode's end do not count. The policy samples by ``seed`` and is in evaluation mode afterwards.
    Returns None if there is no episode, none has three frames, or no action ever changes in training.

    Args:
        policy: what predicts.
        chunks: of the held-out episodes.
        train: those of the training episodes, which give each action dimension its range.
        limit: compare at most this many chunks.
        seed: of the policy's sampling.
    """
    if not chunks.frames:
        return None
    policy.manual_seed(seed)
    actions = chunks.columns[ACTION].view(chunks.frames, -1)
    learned = train.columns[ACTION].view(train.frames, -1)
    low, high = (bound.to(actions.device) for bound in learned.aminmax(dim=0))
    moving = high > low
    rows = (torch.arange(chunks.frames, device=chunks.begins.device) - chunks.begins >= 2).nonzero().flatten()
    if not len(rows) or not moving.any():
        return None
    rows = rows[evenly_spread(len(rows), limit).to(rows.device)]
    errors = []
    for part in rows.split(EVAL_BATCH):
        batch = chunks.batch(part, raw=True)
        truth = batch[ACTION].view(len(part), chunks.horizon, -1)
        last, before = (actions[part - back].unsqueeze(1) for back in (1, 2))
        steps = torch.arange(1, truth.shape[1] + 1, device=truth.device).view(1, -1, 1)
        onward = (last + steps * (last - before)).clamp(low, high)
        guesses = torch.stack([policy.predict_action_chunk(batch), last.expand_as(truth), onward], -1)
        off = ((guesses - truth[..., None]).abs() / ((high - low) / 2)[:, None])[..., moving, :].mean(2)
        counted = ~batch["action_is_pad"]
        errors.append((off * counted[..., None]).sum(1) / counted.sum(1, keepdim=True))
    found = torch.cat(errors)
    policy_error, hold, constant_velocity = found.mean(0).tolist()
    spread = clustered_error(found[:, 0], chunks.columns["episode_index"][rows])
    return ChunkError(policy_error, hold, constant_velocity, spread, len(rows))
