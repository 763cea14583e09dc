"""What a tokenizer costs and loses on given chunks, measured."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from anyorder.errors import UserError, bad_value
from anyorder.tokenizers.base import ActionTokenizer

BATCH = 4096


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
class TokenizerReport:
    """Measurements of one tokenizer; ``to_markdown`` and ``rich.print`` show them.

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
        lossy_chunks: chunks that were cut or clamped to fit.
        encode_per_s: chunks encoded per second in batches of up to 4096, on the chunks' device.
        decode_per_s: chunks decoded per second, likewise.
        errors: reconstruction error per action dimension.
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
    lossy_chunks: int
    encode_per_s: float
    decode_per_s: float
    errors: tuple[ActionError, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)

    def summary(self) -> list[tuple[str, str]]:
        """Return what concerns whole chunks as pairs of name and value."""
        return [
            ("tokenizer", self.tokenizer),
            ("chunks", f"{self.chunks}"),
            ("vocabulary", f"{self.vocab_size} ({self.tokens_used} used)"),
            ("length, padding included", f"{self.length}"),
            ("tokens per chunk", f"{self.tokens_mean:.1f} ({self.tokens_min} to {self.tokens_max})"),
            ("values per token", f"{self.values_per_token:.2f}"),
            ("bits per chunk, uniform", f"{self.bits_upper:.1f}"),
            ("bits per chunk, unigram", f"{self.bits_unigram:.1f}"),
            ("chunks cut or clamped", f"{self.lossy_chunks}"),
            ("encode, chunks per s", f"{self.encode_per_s:.0f}"),
            ("decode, chunks per s", f"{self.decode_per_s:.0f}"),
        ]

    def error_rows(self) -> list[tuple[str, ...]]:
        """Return the error table's rows: name, rmse, 99th percentile, maximum."""
        return [(e.name, f"{e.rmse:.4g}", f"{e.p99:.4g}", f"{e.max:.4g}") for e in self.errors]

    def to_markdown(self) -> str:
        """Return both tables in Markdown."""
        lines = ["| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in self.summary()]
        lines += ["", "| action error | rmse | p99 | max |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in self.error_rows()]
        return "\n".join(lines)

    def __rich__(self) -> Table:
        grid = Table.grid(padding=(1, 4))
        summary, errors = Table(show_header=False), Table("action error", "rmse", "p99", "max")
        for pair in self.summary():
            summary.add_row(*pair)
        for row in self.error_rows():
            errors.add_row(*row)
        grid.add_row(summary, errors)
        return grid


def tokenizer_report(
    tokenizer: ActionTokenizer,
    chunks: Tensor,
    unnormalise: Callable[[Tensor], Tensor] | None = None,
    action_names: Sequence[str] | None = None,
) -> TokenizerReport:
    """Encode and decode chunks and measure length, information, error and speed.

    Args:
        tokenizer: a fitted tokenizer.
        chunks: normalised chunks (count, horizon, action size); what lies outside [-1, 1] counts as error.
        unnormalise: maps normalised chunks to action units; without it errors are in normalised units.
        action_names: names of the dimensions; numbers otherwise.

    Raises:
        UserError: no chunks, or not one name per dimension.

    >>> from anyorder.tokenizers.bins import BinsTokenizer
    >>> report = tokenizer_report(BinsTokenizer(1, 1, bins=4), torch.tensor([[[0.25]], [[0.75]]]))
    >>> report.tokens_mean, report.bits_upper, report.bits_unigram, report.errors[0].max
    (1.0, 2.0, 1.0, 0.0)
    """
    if len(chunks) == 0:
        raise UserError(bad_value("chunks to measure", 0, "at least 1"))
    names = [str(i) for i in range(tokenizer.action_size)] if action_names is None else list(action_names)
    if len(names) != tokenizer.action_size:
        raise UserError(bad_value("action_names", names, f"{tokenizer.action_size} names"))

    batches = list(torch.split(chunks, BATCH))
    codes, encode_s = _timed(tokenizer.encode, batches)
    decoded, decode_s = _timed(tokenizer.decode, codes)
    tokens, restored = torch.cat(codes), torch.cat(decoded)

    convert = unnormalise or (lambda x: x)
    error = (convert(restored) - convert(chunks.to(restored.dtype))).abs().flatten(0, 1).double()
    counts = tokenizer.token_count(tokens)
    tokens_mean = counts.double().mean().item()
    kept = torch.arange(tokenizer.length, device=tokens.device) < counts[:, None]
    frequency = torch.bincount(tokens[kept], minlength=tokenizer.vocab_size).double()
    frequency = frequency[frequency > 0] / frequency.sum()
    entropy = -(frequency * frequency.log2()).sum().item()
    values = tokenizer.horizon * tokenizer.action_size
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
        lossy_chunks=sum(int((~tokenizer.lossless(batch)).sum()) for batch in batches),
        encode_per_s=len(chunks) / encode_s,
        decode_per_s=len(chunks) / decode_s,
        errors=tuple(_action_error(name, error[:, i]) for i, name in enumerate(names)),
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
