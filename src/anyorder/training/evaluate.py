"""Scores on held-out episodes: likelihood (or its bound) for tokens, error for every family."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.datasets.chunks import ActionChunks
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


@torch.no_grad()
def validate(
    policy: AnyOrderPolicy, chunks: ActionChunks, *, samples: int, limit: int, seed: int
) -> Validation:
    """Score a policy on at most ``limit`` chunks, evenly spread; the same ones and draws for the same ``seed``.

    Args:
        policy: in evaluation mode afterwards.
        chunks: held-out episodes.
        samples: Monte-Carlo draws per chunk, for bounds.
        limit: chunks scored at most.
        seed: of the draws.
    """
    policy.eval()
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    rows = torch.linspace(0, chunks.frames - 1, min(limit, chunks.frames)).long()
    losses, nlls, tokens = [], [], 0
    for part in rows.split(EVAL_BATCH):
        batch = chunks.batch(part)
        loss, _ = policy(batch, reduction="none", generator=generator)
        losses.append(loss)
        if policy.tokenizer is not None and isinstance(policy.factorization, TokenFactorization):
            nlls.append(-policy.log_prob(batch, generator=generator, samples=samples).value)
            tokens += int(policy.tokenizer.token_count(policy.chunk(batch)).sum())
    loss = float(torch.cat(losses).mean())
    if not nlls:
        return Validation(loss, None, None, None, None, None, len(rows))
    nll = torch.cat(nlls)
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
