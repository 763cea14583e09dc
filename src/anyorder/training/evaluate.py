"""Scores on held-out episodes: likelihood (or its bound) for tokens, error for every family."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.errors import DivergedError
from anyorder.policies import AnyOrderPolicy
from anyorder.training.score import EVAL_BATCH, score


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
    policy: AnyOrderPolicy, chunks: ActionChunks, *, samples: int, limit: int, seed: int, progress: float = 1.0
) -> Validation:
    """Score a policy on at most ``limit`` chunks, evenly spread; the same ones and draws for the same ``seed``.

    A bound is of ``samples`` Monte-Carlo draws a chunk. The loss is that of the moment when training is at
    ``progress``, from 0 to 1. The policy is in evaluation mode afterwards.

    Raises:
        DivergedError: a score is not finite.
    """
    device = next(policy.parameters()).device
    rows = evenly_spread(chunks.frames, limit)
    batches = (chunks.batch(part, raw=True) for part in rows.split(EVAL_BATCH))
    coded = ((policy.codec.encode(batch), policy.context(batch)) for batch in batches)
    generator = torch.Generator(device).manual_seed(seed)
    found = score(policy, coded, samples=samples, generator=generator, progress=progress)
    assert found.loss is not None
    loss = float(found.loss.mean())
    if not math.isfinite(loss):
        raise DivergedError("loss", loss, "a finite number, as a lower learning rate gives")
    if found.nll is None or found.tokens is None:
        return Validation(loss, None, None, None, None, None, len(rows))
    nll = found.nll
    if not bool(nll.isfinite().all()):
        raise DivergedError("validation NLL", float(nll.mean()), "a finite number")
    values = policy.config.chunk_size * policy.config.action_size
    return Validation(
        loss=loss,
        nll_nats_per_chunk=float(nll.mean()),
        nll_standard_error=clustered_error(nll, chunks.columns["episode_index"][rows]),
        nll_nats_per_token=float(nll.sum() / int(found.tokens.sum())),
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
