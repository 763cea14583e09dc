"""Whether what enters and leaves a policy is finite, said by feature and dimension."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anyorder.errors import NotFiniteError
from anyorder.files import Words


def check_finite(
    values: Mapping[str, Tensor], names: Mapping[str, Sequence[str]] | None = None, allowed: str = "finite numbers"
) -> None:
    """Check numbers as the policy reads them, in single precision; integers are let through.

    Args:
        values: by feature, each (batch, ...).
        names: of the dimensions of a feature, along its last axis, where they are known.
        allowed: what the message says is allowed.

    Raises:
        NotFiniteError: a value is NaN or infinite; it names the feature, the first such value, its dimension and how
            many there are, and its ``rows`` are those of the batch.

    >>> check_finite({"action": torch.tensor([[0.0, torch.nan]])}, {"action": ["pan", "lift"]})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    anyorder.errors.NotFiniteError: action: nan in row 0, lift (1 of 2 values is not finite) given, allowed: ...
    """
    read = {name: single(v) for name, v in values.items() if v.is_floating_point()}
    # A sum is finite only if all its terms are: one quick look for all features, and a closer one where it is not.
    sums = [v.sum().float() for v in read.values()]
    if not sums or bool(torch.stack([total.to(sums[0].device) for total in sums]).isfinite().all()):
        return
    for name, feature in read.items():
        wrong = ~feature.isfinite()
        if bool(wrong.any()):
            raise _error(name, feature, wrong, (names or {}).get(name, ()), allowed)


def single(values: Tensor) -> Tensor:
    """Return float64 as float32, which is what a policy computes in; others as they are."""
    return values.float() if values.dtype is torch.float64 else values


def _error(name: str, values: Tensor, wrong: Tensor, names: Sequence[str], allowed: str) -> NotFiniteError:
    places = wrong.nonzero()
    first = places[0].tolist()
    where = [f"row {first[0]}", *(str(i) for i in first[1:])]
    if len(first) > 1 and len(names) == values.shape[-1]:
        where[-1] = names[first[-1]]
    elif len(first) == 2:
        where[-1] = f"dimension {first[-1]}"
    count = f"{len(places)} of {values.numel()} values {'is' if len(places) == 1 else 'are'} not finite"
    given = Words(f"{float(values[tuple(first)])} in {', '.join(where)} ({count})")
    return NotFiniteError(name, given, allowed, rows=torch.unique(places[:, 0]).tolist())
