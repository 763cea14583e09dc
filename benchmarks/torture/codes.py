"""Millions of codes through every tokenizer: each decodes to finite actions within range, or is refused in one line.

``python benchmarks/torture codes --count 5000000 --seed 0`` prints a table.
"""

import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from anyorder.errors import DecodeError
from anyorder.testing.tokenizers import fitted, legal_sequences
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig

Row = tuple[str, int, int, int, int, int, int]
BATCH, ALONE = 8192, 16
"""Codes at once, and codes of each batch that are tried alone: those that a tokenizer is to refuse."""
HANG_S = 10.0
OUTCOMES = ("refused", "unharmed", "traceback", "silent", "hang")
SHAPES = ((16, 6), (7, 1))
QUICK = {"registers": {"steps": 300}}


def run(count: int, seed: int, folder: Path | None = None, show: Callable[[str], None] = print) -> list[Row]:
    """Decode ``count`` codes, spread evenly over all tokenizers and two shapes of chunks.

    Half of them are drawn among the legal ones, half among all integers from -1 to the size of the vocabulary, which
    is one more than there is at both ends.

    Args:
        count: codes.
        seed: of the draws.
        folder: not used; files are not.
        show: told of everything that is wrong.

    Returns:
        A row a tokenizer: what, tried, refused, unharmed (finite and within range), tracebacks, silent (neither),
        hangs.
    """
    cases = [(choice, shape) for choice in sorted(TokenizerConfig.choices) for shape in SHAPES]
    shares = [count // len(cases) + (i < count % len(cases)) for i in range(len(cases))]
    return [row(*case, share, seed, show) for case, share in zip(cases, shares, strict=True)]


def row(choice: str, shape: tuple[int, int], count: int, seed: int, show: Callable[[str], None]) -> Row:
    """Try ``count`` codes of one tokenizer."""
    what = f"codes of {choice}, {shape[0]} x {shape[1]}"
    tokenizer = fitted(TokenizerConfig.named(choice, **QUICK.get(choice, {})), shape)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {what}".encode()))
    counts: Counter[str] = Counter()
    while (left := count - counts.total()) > 0:
        legal = legal_sequences(tokenizer, min(BATCH, -(-left // 2)), generator)
        counts += tried(tokenizer, legal, what, show)
        left = count - counts.total()
        if left > 0:
            drawn = arbitrary(tokenizer, min(BATCH, left), generator)
            accepted = is_legal(tokenizer, drawn)
            counts += tried(tokenizer, drawn[accepted], what, show)
            for code in drawn[~accepted][: min(ALONE, count - counts.total())]:
                counts += tried(tokenizer, code[None], what, show)
    print(f"{what}: {counts.total()} tried", file=sys.stderr, flush=True)
    return (what, counts.total(), *(counts[outcome] for outcome in OUTCOMES))


def arbitrary(tokenizer: ActionTokenizer, count: int, generator: torch.Generator) -> Tensor:
    """Draw integers (count, length), most rows within the vocabulary."""
    codes = torch.randint(tokenizer.vocab_size, (count, tokenizer.length), generator=generator)
    beyond = torch.randint(-1, tokenizer.vocab_size + 1, codes.shape, generator=generator)
    return torch.where(torch.rand((count, 1), generator=generator) < 0.1, beyond, codes)


def is_legal(tokenizer: ActionTokenizer, codes: Tensor) -> Tensor:
    """Return which codes (count, length) a tokenizer promises to decode."""
    inside = ((codes >= 0) & (codes < tokenizer.vocab_size)).all(1)
    if tokenizer.constraint is not None:
        inside = inside & tokenizer.constraint.accepts(codes.clamp(0, tokenizer.vocab_size - 1))
    return inside


def tried(tokenizer: ActionTokenizer, codes: Tensor, what: str, show: Callable[[str], None]) -> Counter[str]:
    """Decode codes that are all legal, or all not; returns how many had which outcome."""
    if not len(codes):
        return Counter()
    promised = is_legal(tokenizer, codes)
    assert promised.all() or not promised.any()
    started = time.monotonic()
    outcome, note = "unharmed", ""
    try:
        actions = tokenizer.decode(codes)
        wrong = ~(actions.isfinite() & (actions.abs() <= 1)).flatten(1).all(1)
        wanted = (len(codes), tokenizer.horizon, tokenizer.action_size)
        if wrong.any() or actions.shape != wanted or not promised.all():
            outcome, note = "silent", f"{codes[wrong][:1].tolist()} gives no finite actions within range"
    except DecodeError as error:
        outcome, note = "refused", str(error)
        if promised.all() or "\n" in str(error):
            outcome = "traceback"
    except Exception as error:
        outcome, note = "traceback", f"{type(error).__name__}: {error}"
    if time.monotonic() - started > HANG_S:
        outcome, note = "hang", f"{time.monotonic() - started:.0f} s"
    if outcome in ("traceback", "silent", "hang"):
        show(f"{what}: {outcome}: {note}"[:400])
    return Counter({outcome: len(codes)})
