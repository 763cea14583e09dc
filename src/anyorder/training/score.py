"""The scorer: the loss and the likelihood of chunks that are encoded already."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization import TokenFactorization
from anyorder.policies import AnyOrderPolicy

EVAL_BATCH = 128
"""Chunks that are scored at a time; draws depend on it, as a batch's are drawn together."""


@dataclass(frozen=True)
class Scores:
    """Scores of each chunk.

    Attributes:
        loss: the training loss, (chunks,); None where it was not asked for.
        nll: negative log-likelihood or the bound on it in nats, (chunks,); None for families without one.
        draws_error: its Monte-Carlo standard error, (chunks,); None where ``nll`` is.
        tokens: of the code, END counted and PAD not, (chunks,) int64; None where ``nll`` is.
    """

    loss: Tensor | None
    nll: Tensor | None
    draws_error: Tensor | None
    tokens: Tensor | None


@torch.no_grad()
def score(
    policy: AnyOrderPolicy,
    coded: Iterable[tuple[Tensor, Tensor]],
    *,
    samples: int,
    generator: torch.Generator,
    progress: float | None = None,
) -> Scores:
    """Score batches of chunks.

    Args:
        policy: in evaluation mode afterwards.
        coded: of each batch, the code (batch, ...) and the encoded observations (batch, context tokens, width).
        samples: Monte-Carlo draws per chunk, for bounds.
        generator: source of what is drawn: of the loss, then of the likelihood, batch by batch.
        progress: the loss at this moment of training, from 0 to 1, is scored, too; no loss is when None.
    """
    policy.eval()
    losses, nlls, errors, tokens = [], [], [], []
    for code, context in coded:
        if progress is not None:
            losses.append(policy.losses(code, context, generator=generator, progress=progress))
        if policy.tokenizer is not None and isinstance(policy.factorization, TokenFactorization):
            found = policy.code_log_prob(code, context, generator=generator, samples=samples)
            nlls.append(-found.value)
            errors.append(found.standard_error)
            tokens.append(policy.tokenizer.token_count(code))
    return Scores(*(torch.cat(parts) if parts else None for parts in (losses, nlls, errors, tokens)))
