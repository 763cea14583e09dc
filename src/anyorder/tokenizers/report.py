"""What a tokenizer costs and loses on given chunks, measured."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import UserError
from anyorder.tokenizers.base import ActionTokenizer
from anyorder.tokenizers.steadiness import JITTER, Steadiness, steadiness

BATCH = 4096
"""This many chunks are coded at once."""
WORST_CHUNKS = 3
"""A report shows this many of the chunks that come back worst."""


@dataclass(frozen=True)
class ActionError:
    """Reconstruction error of one action dimension, in its own units.

    Attributes:
        name: the dimension's name.
        rmse: root mean square over all chunks and time steps.
        p99: 99th percentile of the absolute error.
        max: largest absolute error.
    """

    name: str
    rmse: float
    p99: float
    max: float


@dataclass(frozen=True)
class WorstChunk:
    """A chunk that comes back badly, in action units.

    Attributes:
        index: its place among the measured chunks, from 0.
        rmse: root mean square error over its time steps and dimensions.
        dimension: name of the dimension with the chunk's largest absolute error.
        max: that error.
        original: the dimension's values over time.
        decoded: what they came back as.
    """

    index: int
    rmse: float
    dimension: str
    max: float
    original: tuple[float, ...]
    decoded: tuple[float, ...]


@dataclass(frozen=True)
class TokenizerReport:
    """Measurements of one tokenizer; ``anyorder.reports.tokenizer_tables`` shows them.

    Token counts include END and leave out PAD.

    Attributes:
        tokenizer: the tokenizer's choice.
        chunks: chunks measured on.
        values_per_chunk: horizon times action size.
        vocab_size: number of different tokens.
        length: tokens per chunk, PAD included.
        tokens_mean: mean tokens per chunk.
        tokens_min: fewest tokens of a chunk.
        tokens_max: most tokens of a chunk.
        values_per_token: compression, ``values_per_chunk / tokens_mean``.
        bits_upper: bits per chunk when all tokens are equally likely, ``tokens_mean * log2(vocab_size)``.
        bits_unigram: bits per chunk under the tokens' own frequencies, ``tokens_mean * entropy``.
        tokens_used: different tokens that occur.
        lossy_chunks: chunks that were cut or clamped to fit; None for codes that promise no error.
        encode_per_s: chunks encoded per second in batches of up to 4096, on the chunks' device.
        decode_per_s: chunks decoded per second, likewise.
        rmse_normalised: root mean square error over all values, in normalized units.
        rmse: the same in action units, which tells little where the dimensions' units differ.
        errors: reconstruction error per action dimension.
        worst: up to ``WORST_CHUNKS`` chunks with the largest rmse in action units, the worst first.
        steadiness: how steady the codes are; None where the chunks' episodes are not known.
    """

    tokenizer: str
    chunks: int
    values_per_chunk: int
    vocab_size: int
    length: int
    tokens_mean: float
    tokens_min: int
    tokens_max: int
    values_per_token: float
    bits_upper: float
    bits_unigram: float
    tokens_used: int
    lossy_chunks: int | None
    encode_per_s: float
    decode_per_s: float
    rmse_normalised: float
    rmse: float
    errors: tuple[ActionError, ...]
    worst: tuple[WorstChunk, ...]
    steadiness: Steadiness | None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


def tokenizer_report(
    tokenizer: ActionTokenizer,
    chunks: Tensor,
    unnormalize: Callable[[Tensor], Tensor] | None = None,
    action_names: Sequence[str] | None = None,
    episodes: Tensor | None = None,
    jitter: float = JITTER,
) -> TokenizerReport:
    """Encode and decode chunks and measure length, information, error, speed and steadiness.

    Args:
        tokenizer: a fitted tokenizer.
        chunks: normalized chunks (count, horizon, action size); what lies outside [-1, 1] counts as error.
        unnormalize: maps normalized chunks to action units; without it errors are in normalized units.
        action_names: names of the dimensions; numbers otherwise.
        episodes: the episode of each chunk (count,), where chunks begin at every frame in order; without it steadiness
            is not measured.
        jitter: how much a chunk is changed for it, in normalized units.

    Raises:
        UserError: no chunks, or not one name per dimension.

    >>> from anyorder.tokenizers.bins import BinsTokenizer
    >>> report = tokenizer_report(BinsTokenizer(1, 1, bins=4), torch.tensor([[[0.25]], [[0.75]]]))
    >>> report.tokens_mean, report.bits_upper, report.bits_unigram, report.errors[0].max
    (1.0, 2.0, 1.0, 0.0)
    """
    if len(chunks) == 0:
        raise UserError("chunks to measure", 0, "at least 1")
    names = [str(i) for i in range(tokenizer.action_size)] if action_names is None else list(action_names)
    if len(names) != tokenizer.action_size:
        raise UserError("action_names", names, f"{tokenizer.action_size} names")

    batches = list(torch.split(chunks, BATCH))
    codes, encode_s = _timed(tokenizer.encode, batches)
    decoded, decode_s = _timed(tokenizer.decode, codes)
    tokens, restored = torch.cat(codes), torch.cat(decoded)

    convert = unnormalize or (lambda x: x)
    original, back = convert(chunks.to(restored.dtype)), convert(restored)
    error = (back - original).double()
    flat = error.abs().flatten(0, 1)
    counts = tokenizer.token_count(tokens)
    tokens_mean = counts.double().mean().item()
    kept = torch.arange(tokenizer.length, device=tokens.device) < counts[:, None]
    frequency = torch.bincount(tokens[kept], minlength=tokenizer.vocab_size).double()
    frequency = frequency[frequency > 0] / frequency.sum()
    entropy = -(frequency * frequency.log2()).sum().item()
    values = tokenizer.horizon * tokenizer.action_size
    lossy = None
    if tokenizer.max_rmse is not None:
        lossy = sum(int((~tokenizer.lossless(batch)).sum()) for batch in batches)
    return TokenizerReport(
        tokenizer=tokenizer.choice,
        chunks=len(chunks),
        values_per_chunk=values,
        vocab_size=tokenizer.vocab_size,
        length=tokenizer.length,
        tokens_mean=tokens_mean,
        tokens_min=int(counts.min()),
        tokens_max=int(counts.max()),
        values_per_token=values / tokens_mean,
        bits_upper=tokens_mean * math.log2(tokenizer.vocab_size),
        bits_unigram=abs(tokens_mean * entropy),
        tokens_used=len(frequency),
        lossy_chunks=lossy,
        encode_per_s=len(chunks) / encode_s,
        decode_per_s=len(chunks) / decode_s,
        rmse_normalised=(restored - chunks).double().square().mean().sqrt().item(),
        rmse=error.square().mean().sqrt().item(),
        errors=tuple(_action_error(name, flat[:, i]) for i, name in enumerate(names)),
        worst=_worst_chunks(original, back, names),
        steadiness=None if episodes is None else steadiness(tokenizer, chunks, tokens, episodes, jitter),
    )


def _timed(function: Callable[[Tensor], Tensor], batches: list[Tensor]) -> tuple[list[Tensor], float]:
    """Return the function's results and the seconds they took, after one call that does not count."""
    function(batches[0])
    start_s = time.perf_counter()
    results = [function(batch) for batch in batches]
    # Reading a value waits for an accelerator that is still at work.
    results[-1].flatten()[:1].tolist()
    return results, time.perf_counter() - start_s


def _action_error(name: str, error: Tensor) -> ActionError:
    """Summarise the absolute errors (count,) of one dimension."""
    # torch.quantile takes no more than 2^24 values; the k-th smallest has no limit.
    p99 = error.kthvalue(math.ceil(0.99 * len(error))).values
    return ActionError(name, error.square().mean().sqrt().item(), p99.item(), error.max().item())


def _worst_chunks(original: Tensor, decoded: Tensor, names: Sequence[str]) -> tuple[WorstChunk, ...]:
    """Return the chunks of (count, horizon, action size) with the largest rmse, the worst first."""
    error = (decoded - original).abs().double()
    rmse = error.square().mean((1, 2)).sqrt()
    found = []
    for index in rmse.argsort(descending=True, stable=True)[:WORST_CHUNKS].tolist():
        largest = error[index].amax(0)
        i = int(largest.argmax())
        found.append(
            WorstChunk(
                index=index,
                rmse=rmse[index].item(),
                dimension=names[i],
                max=largest[i].item(),
                original=tuple(original[index, :, i].tolist()),
                decoded=tuple(decoded[index, :, i].tolist()),
            )
        )
    return tuple(found)
