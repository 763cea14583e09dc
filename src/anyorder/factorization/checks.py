"""What callers may hand to a factorization; anything else gets one clear line."""

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from anyorder.errors import ConfigError, NotFiniteError

if TYPE_CHECKING:
    from anyorder.factorization.base import FactorizationConfig

UNKNOWN = -1
"""This number stands for a free position in a code."""


SMALLEST_TEMPERATURE = 1e-6
"""This is the least temperature above 0: below it a draw is that of temperature 0, and divisions overflow."""

SMALLEST_NUCLEUS = 1e-6
"""This is the least mass of a nucleus: below it a draw is that of temperature 0."""


def require(condition: bool, field: str, given: Any, allowed: str) -> None:
    """Raise a ``ConfigError`` of one line unless ``condition`` holds.

    >>> require(1 > 0, "steps", 1, ">= 1")
    """
    if not condition:
        raise ConfigError(field, given, allowed)


def check_sampling(
    temperature: Any = 0.0, nucleus: Any = 1.0, guidance: Any = 1.0, family: "FactorizationConfig | None" = None
) -> None:
    """Check the numbers that samplers take; configs that hold them call this, too.

    Args:
        temperature: 0, or finite and at least ``SMALLEST_TEMPERATURE``.
        nucleus: from ``SMALLEST_NUCLEUS`` to 1.
        guidance: finite and at least 0.
        family: where it is known who samples; one that draws no tokens takes no other temperature and nucleus than
            the defaults.

    Raises:
        ConfigError: one of them is something else.

    >>> check_sampling(temperature=float("inf"))
    Traceback (most recent call last):
    anyorder.errors.ConfigError: temperature: inf given, allowed: 0, or a finite number of at least 1e-06
    """
    good = finite(temperature) and (temperature == 0 or temperature >= SMALLEST_TEMPERATURE)
    require(good, "temperature", temperature, f"0, or a finite number of at least {SMALLEST_TEMPERATURE}")
    good = finite(nucleus) and SMALLEST_NUCLEUS <= nucleus <= 1
    require(good, "nucleus", nucleus, f"a number from {SMALLEST_NUCLEUS} to 1")
    require(finite(guidance) and guidance >= 0, "guidance", guidance, "a finite number >= 0")
    if family is not None and not family.family.draws_tokens:
        reason = f"as {family.choice} draws no tokens"
        require(temperature == 0, "temperature", temperature, f"0, {reason}")
        require(nucleus == 1, "nucleus", nucleus, f"1, {reason}")


def finite(value: Any) -> bool:
    """Say whether a value is one finite number; true and false are none.

    >>> finite(1), finite(float("nan")), finite("1"), finite(True)
    (True, False, False, False)
    """
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_finite(values: Tensor, field: str) -> Tensor:
    """Return ``values`` (batch, ...) if all are finite; on a GPU this waits for them.

    Raises:
        NotFiniteError: names the rows that hold NaN or infinity.

    >>> check_finite(torch.tensor([[0.0], [float("nan")]]), "chunk")
    Traceback (most recent call last):
    anyorder.errors.NotFiniteError: chunk, row 1: NaN or infinity given, allowed: finite numbers
    """
    good = values.isfinite()
    if not bool(good.all()):
        refuse_rows(~good, field)
    return values


def refuse_rows(bad: Tensor, field: str) -> NoReturn:
    """Raise the ``NotFiniteError`` about the rows in which ``bad`` (batch, ...) is True somewhere."""
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().tolist() if bad.dim() else []
    where = f", row {rows[0]}" if rows else ""
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    raise NotFiniteError(f"{field}{where}{more}: NaN or infinity given, allowed: finite numbers", rows=rows)


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
    require(inside, "known", None if inside else known.tolist(), f"tokens in [0, {vocab_size}), {UNKNOWN} where free")
    return known.clone()


def check_codes(length: int, tokens: Tensor, samples: int) -> None:
    """Raise a ``ConfigError`` unless ``tokens`` are int64 codes of this length and ``samples`` >= 1."""
    good = tokens.dim() == 2 and tokens.shape[1] == length
    require(good, "tokens", tuple(tokens.shape), f"shape (batch, {length})")
    require(tokens.dtype == torch.int64, "type of the tokens", str(tokens.dtype), "torch.int64")
    require(samples >= 1, "samples", samples, "an integer >= 1")
