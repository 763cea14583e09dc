"""What callers may hand to a factorization; anything else gets one clear line."""

from typing import Any

import torch
from torch import Tensor

from anyorder.errors import ConfigError, bad_value

UNKNOWN = -1
"""Marks a free position in ``known``."""


def require(condition: bool, field: str, given: Any, allowed: str) -> None:
    """Raise a ``ConfigError`` of one line unless ``condition`` holds.

    >>> require(1 > 0, "steps", 1, ">= 1")
    """
    if not condition:
        raise ConfigError(bad_value(field, given, allowed))


def check_known(known: Tensor | None, context: Tensor, length: int, vocab_size: int) -> Tensor:
    """Return ``known``, or a code of unknowns where it is None, as a fresh tensor (batch, length).

    Raises:
        ConfigError: ``known`` has another shape, or holds something else than tokens and ``UNKNOWN``.
    """
    shape = (context.shape[0], length)
    if known is None:
        return torch.full(shape, UNKNOWN, device=context.device)
    require(tuple(known.shape) == shape, "known", tuple(known.shape), f"shape {shape}")
    whole = known.dtype == torch.int64
    require(whole, "known", str(known.dtype), "torch.int64")
    inside = bool(((known >= UNKNOWN) & (known < vocab_size)).all())
    # A copy to the host, for the message alone.
    require(
        inside,
        "known",
        None if inside else known.tolist(),
        f"tokens in [0, {vocab_size}), {UNKNOWN} where free",
    )
    return known.clone()


def check_codes(length: int, tokens: Tensor, samples: int) -> None:
    """Raise a ``ConfigError`` unless ``tokens`` are codes of this length and ``samples`` >= 1."""
    good = tokens.dim() == 2 and tokens.shape[1] == length
    require(good, "tokens", tuple(tokens.shape), f"shape (batch, {length})")
    require(samples >= 1, "samples", samples, "an integer >= 1")
