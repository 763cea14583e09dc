"""How steady codes are: how much of them stays from one frame to the next, and under a small change of the chunk."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.tokenizers.base import ActionTokenizer

JITTER = 0.005
"""The default standard deviation of the change, in normalized units: a quarter of a percent of an action's range."""
JITTERED_CHUNKS = 128
"""This many chunks, evenly spread, are changed."""
JITTERS = 64
"""Each of them is changed this many times."""
SEED = 0
"""The changes are drawn by this seed."""
PAIRS = 256
"""This many pairs of codes with PAD are compared at once."""


@dataclass(frozen=True)
class Steadiness:
    """How steady the codes of chunks are.

    A code that jumps where the chunk hardly changes adds entropy that no observation explains, and a policy pays for
    it in likelihood (Dong et al., 2026: "ActionCodec: What Makes for Good Action Tokenizers", arXiv 2602.15397).

    Attributes:
        overlap_rate: what ``overlap`` gives, averaged over ``neighbours``; None without any.
        neighbours: how many pairs of chunks were compared.
        jitter: standard deviation of the small change, in normalized units.
        jitter_entropy: what ``jitter_entropy`` gives, nats per action value.
    """

    overlap_rate: float | None
    neighbours: int
    jitter: float
    jitter_entropy: float


def steadiness(
    tokenizer: ActionTokenizer, chunks: Tensor, codes: Tensor, episodes: Tensor, jitter: float = JITTER
) -> Steadiness:
    """Measure both on chunks that begin at every frame of some episodes.

    Args:
        tokenizer: a fitted tokenizer.
        chunks: normalized chunks (count, horizon, action size), in the order of the frames.
        codes: their tokens (count, length).
        episodes: the number of each chunk's episode (count,); two in a row of one episode start one frame apart.
        jitter: standard deviation of the small change.

    >>> from anyorder.tokenizers.bins import BinsTokenizer
    >>> tokenizer = BinsTokenizer(2, 1, bins=4)
    >>> chunks = torch.tensor([[-0.75, -0.25], [-0.25, -0.25], [-0.25, 0.25]]).unsqueeze(-1)
    >>> steadiness(tokenizer, chunks, tokenizer.encode(chunks), torch.zeros(3))
    Steadiness(overlap_rate=0.5, neighbours=2, jitter=0.005, jitter_entropy=0.0)
    """
    first = (episodes[1:] == episodes[:-1]).nonzero().flatten().to(codes.device)
    rates = overlap(tokenizer, codes[first], codes[first + 1])
    return Steadiness(
        overlap_rate=rates.mean().item() if len(rates) else None,
        neighbours=len(rates),
        jitter=jitter,
        jitter_entropy=jitter_entropy(tokenizer, chunks, jitter),
    )


def overlap(tokenizer: ActionTokenizer, one: Tensor, other: Tensor) -> Tensor:
    """Return the share of tokens that two codes have in common, (batch,) float64.

    Formula: for codes of a fixed length ``(1/L) sum_i [a_i = b_i]``, place by place and without a shift; for codes
    with PAD ``sum_v min(n_v(a), n_v(b)) / max(|a|, |b|)``, where n_v counts token v and END is counted, since one
    token more moves all that follow.

    Args:
        tokenizer: whose codes they are.
        one: a code each, (batch, length).
        other: the other code of each, (batch, length).
    """
    if tokenizer.pad_token is None:
        return (one == other).double().mean(-1)
    longer = torch.maximum(tokenizer.token_count(one), tokenizer.token_count(other))
    if not len(longer):
        return longer.double()
    common = []
    for a, b in zip(torch.split(one, PAIRS), torch.split(other, PAIRS), strict=True):
        # The k-th occurrence of a token in one code meets the k-th in the other, so that each counts once.
        met = (a.unsqueeze(2) == b.unsqueeze(1)) & (rank(a).unsqueeze(2) == rank(b).unsqueeze(1))
        common.append((met.any(2) & (a != tokenizer.pad_token)).sum(1))
    return torch.cat(common).double() / longer


def rank(tokens: Tensor) -> Tensor:
    """Return how often each token of (batch, length) stood in its row before, int64.

    >>> rank(torch.tensor([[5, 7, 5, 5]]))
    tensor([[0, 0, 1, 2]])
    """
    return (tokens.unsqueeze(-1) == tokens.unsqueeze(-2)).tril(-1).sum(-1)


def jitter_entropy(tokenizer: ActionTokenizer, chunks: Tensor, jitter: float = JITTER) -> float:
    """Return how uncertain a code is when its chunk is known up to a small change, nats per action value.

    Formula: ``(1 / (H A)) mean_chunk sum_i H(C_i | chunk)``, where C is the code of ``chunk + jitter * noise`` with
    standard normal noise, and H, A are the horizon and the action size. Each token's entropy is the one of its
    ``JITTERS`` draws with the correction of Miller and Madow, ``+ (values seen - 1) / (2 JITTERS)``; more than about
    ``ln(JITTERS)`` nats a token cannot be seen.

    It is a proxy of H(code | chunk up to what an observation can tell). The sum over single tokens is an upper bound
    of the joint entropy under this noise, and a real observation leaves another, larger uncertainty.

    Args:
        tokenizer: a fitted tokenizer.
        chunks: normalized chunks (count, horizon, action size), of which ``JITTERED_CHUNKS`` are changed.
        jitter: standard deviation of the change; what leaves [-1, 1] is clipped, as everywhere.
    """
    rows = torch.linspace(0, len(chunks) - 1, min(JITTERED_CHUNKS, len(chunks))).long()
    generator = torch.Generator().manual_seed(SEED)
    total = 0.0
    for chunk in chunks[rows.to(chunks.device)]:
        noise = torch.randn(JITTERS, *chunk.shape, generator=generator).to(chunk)
        tokens = tokenizer.encode(chunk + jitter * noise)
        # Of each draw, how many have the same token there: the logarithm's mean is the entropy of the draws.
        same = (tokens.unsqueeze(0) == tokens.unsqueeze(1)).sum(0).double()
        seen = (1 / same).sum(0)  # every value adds one
        entropy = -(same / JITTERS).log().mean(0) + (seen - 1) / (2 * JITTERS)
        total += entropy.sum().item()
    return total / (len(rows) * tokenizer.horizon * tokenizer.action_size)
