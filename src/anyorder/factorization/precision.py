"""How precise numbers are: draws in float64 where a device has it, losses and noise levels in float32 at least."""

from collections.abc import Callable
from typing import Any, Self, override

import torch
from torch import Tensor, nn


def has_float64(device: torch.device) -> bool:
    """Say whether a device computes in float64; Apple's ``mps`` does not."""
    return device.type != "mps"


def widest(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device.

    >>> widest(torch.device("cpu")), widest(torch.device("mps"))
    (torch.float64, torch.float32)
    """
    return torch.float64 if has_float64(device) else torch.float32


def to_float64(x: Tensor) -> Tensor:
    """Return ``x`` in float64, on its device, or on the CPU where that has no float64."""
    return (x if has_float64(x.device) else x.cpu()).double()


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in the widest floating-point type of its device."""
    return x.to(widest(x.device))


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x`` as float32, or as it is where it is float64.

    Autocast and ``.to(torch.bfloat16)`` give numbers of three digits: too few for noise levels, digits and losses.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Precise(nn.Module):
    """A module that moves with the one it is in, but stays float32 where that is cast to less.

    >>> class Offset(Precise):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("by", torch.tensor([200.3]))
    >>> torch.nn.Sequential(Offset()).to(torch.bfloat16)[0].by
    tensor([200.3000])
    """

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def kept(x: Tensor) -> Tensor:
            given = fn(x)
            if not given.is_floating_point() or at_least_float32(given).dtype == given.dtype:
                return given
            return at_least_float32(x.to(given.device))

        done: Any = super()._apply(kept, recurse)  # type: ignore[no-untyped-call]
        return done  # type: ignore[no-any-return]
