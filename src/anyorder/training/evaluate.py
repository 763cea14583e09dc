"""Scores on held-out episodes: likelihood (or its bound) for tokens, error for every family."""

from dataclasses import asdict, dataclass

import torch
from lerobot.utils.constants import ACTION
from torch import Tensor

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.errors import DivergedError
from anyorder.factorization import TokenFactorization
from anyorder.policies import AnyOrderPolicy

EVAL_BATCH = 128


@dataclass(frozen=True)
class Validation:
    """Scores over validation chunks.

    Attributes:
        loss: mean training loss.
        nll_nats_per_chunk: negative log-likelihood, or the ELBO's negative; None for families without one.
        nll_standard_error: of it, between episodes, since the chunks of one episode overlap; it contains the
            Monte-Carlo error. None with a single episode.
        nll_nats_per_token: the same per token, END counted and PAD not.
        nll_nats_per_value: the same per action value, which compares tokenizers.
        exact: the NLL is the likelihood (True) or an upper bound on it.
        chunks: how many were scored.
    """

    loss: float
    nll_nats_per_chunk: float | None
    nll_standard_error: float | None
    nll_nats_per_token: float | None
    nll_nats_per_value: float | None
    exact: bool | None
    chunks: int

    def metrics(self) -> dict[str, float]:
        """Return the numbers under their names in ``metrics.jsonl``."""
        values = asdict(self).items()
        return {f"val_{k}": v for k, v in values if v is not None and not isinstance(v, bool)}


@torch.no_grad()
def validate(
    policy: AnyOrderPolicy,
    chunks: ActionChunks,
    *,
    samples: int,
    limit: int,
    seed: int,
    progress: float = 1.0,
) -> Validation:
    """Score a policy on at most ``limit`` chunks, evenly spread; the same ones and draws for the same ``seed``.

    Args:
        policy: in evaluation mode afterwards.
        chunks: held-out episodes.
        samples: Monte-Carlo draws per chunk, for bounds.
        limit: chunks scored at most.
        seed: of the draws.
        progress: how far training is, from 0 to 1: the loss is that of this moment.

    Raises:
        DivergedError: a score is not finite.
    """
    policy.eval()
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    rows = evenly_spread(chunks.frames, limit)
    losses, nlls, tokens = [], [], 0
    for part in rows.split(EVAL_BATCH):
        batch = chunks.batch(part, raw=True)
        loss, _ = policy(batch, reduction="none", generator=generator, progress=progress)
        losses.append(loss)
        if policy.tokenizer is not None and isinstance(policy.factorization, TokenFactorization):
            nlls.append(-policy.log_prob(batch, generator=generator, samples=samples).value)
            tokens += int(policy.tokenizer.token_count(policy.codec.encode(batch)).sum())
    loss = float(torch.cat(losses).mean())
    if not nlls:
        return Validation(loss, None, None, None, None, None, len(rows))
    nll = torch.cat(nlls)
    if not bool(nll.isfinite().all()):
        raise DivergedError("validation NLL", float(nll.mean()), "a finite number")
    values = policy.config.chunk_size * policy.config.action_size
    return Validation(
        loss=loss,
        nll_nats_per_chunk=float(nll.mean()),
        nll_standard_error=clustered_error(nll, chunks.columns["episode_index"][rows]),
        nll_nats_per_token=float(nll.sum() / tokens),
        nll_nats_per_value=float(nll.mean() / values),
        exact=policy.factorization.exact,
        chunks=len(rows),
    )


def evenly_spread(count: int, most: int) -> Tensor:
    """Return at most ``most`` of ``count`` rows, evenly spread, (rows,) int64.

    >>> evenly_spread(9, 3).tolist(), evenly_spread(2, 3).tolist()
    ([0, 4, 8], [0, 1])
    """
    return torch.linspace(0, count - 1, min(most, count)).long()


def clustered_error(values: Tensor, cluster: Tensor) -> float | None:
    """Return the standard error of the mean of ``values`` (n,) that vary by ``cluster`` (n,); None for one cluster.

    >>> clustered_error(torch.tensor([1.0, 1.0, 3.0, 3.0]), torch.tensor([0, 0, 1, 1]))
    1.0
    """
    names, member = torch.unique(cluster, return_inverse=True)
    count = len(names)
    if count < 2:
        return None
    residual = torch.zeros(count, dtype=values.dtype, device=values.device)
    residual.index_add_(0, member, values - values.mean())
    return float((residual.square().sum() * count / (count - 1)).sqrt() / len(values))


@dataclass(frozen=True)
class ChunkError:
    """Mean absolute error of predicted chunks on held-out episodes, beside two predictors that learn nothing.

    The unit is half the range that each action dimension has in those episodes; dimensions that never change are left
    out.

    Attributes:
        policy: of the policy, sampling as it acts.
        hold: of repeating the last action before the chunk.
        constant_velocity: of moving on as between the last two actions.
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
def chunk_error(policy: AnyOrderPolicy, chunks: ActionChunks, *, limit: int, seed: int) -> ChunkError | None:
    """Compare predicted chunks with what was demonstrated; steps past an episode's end do not count.

    Args:
        policy: in evaluation mode afterwards.
        chunks: held-out episodes.
        limit: chunks compared at most, evenly spread.
        seed: of the policy's sampling.

    Returns:
        None if there is no episode, none has three frames, or no action ever changes.
    """
    if not chunks.frames:
        return None
    policy.manual_seed(seed)
    actions = chunks.columns[ACTION].view(chunks.frames, -1)
    low, high = actions.aminmax(dim=0)
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
