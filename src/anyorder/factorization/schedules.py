"""How much is masked at which time: the schedules of masked diffusion."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor


class Schedule(ABC):
    """The chance that a token is masked at time t in [0, 1]: increasing, 0 at t = 0 and 1 at t = 1.

    In continuous time the bound does not depend on it (arXiv 2406.03736, 2406.04329): it only spreads the loss's
    noise. A sampler of few steps does: the later most tokens are revealed, the more of the others each is drawn from.
    """

    @abstractmethod
    def masked(self, t: Tensor) -> Tensor:
        """Return the chance m(t)."""

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """Return its derivative m'(t)."""


@dataclass(frozen=True)
class Linear(Schedule):
    """m(t) = t."""

    @override
    def masked(self, t: Tensor) -> Tensor:
        return t

    @override
    def slope(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class Sine(Schedule):
    """m(t) = sin(pi t / 2) = cos(pi (1 - t) / 2): a sampler reveals few tokens at first and many at the end.

    It is what MaskGIT (arXiv 2202.04200, section 3.3, whose time runs the other way) and MD4 (arXiv 2406.04329, with
    alpha = 1 - m) call cosine; one function, so both names mean it.
    """

    @override
    def masked(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2)

    @override
    def slope(self, t: Tensor) -> Tensor:
        return torch.cos(t * math.pi / 2) * math.pi / 2


@dataclass(frozen=True)
class Cosine(Schedule):
    """m(t) = 1 - cos(pi t / 2), few masks for long: ``CosineNoise`` in the code of MDLM (arXiv 2406.07524) and BD3-LM.

    The mirror image of ``Sine``, for training alone: a sampler that follows it reveals most tokens at first, when it
    knows least, and does worse than with ``Linear``.
    """

    @override
    def masked(self, t: Tensor) -> Tensor:
        return 1 - torch.cos(t * math.pi / 2)

    @override
    def slope(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2) * math.pi / 2


@dataclass(frozen=True)
class Polynomial(Schedule):
    """m(t) = t ** power."""

    power: float = 2.0

    @override
    def masked(self, t: Tensor) -> Tensor:
        return t**self.power

    @override
    def slope(self, t: Tensor) -> Tensor:
        return self.power * t ** (self.power - 1)


SCHEDULES: dict[str, Schedule] = {
    "linear": Linear(),
    "maskgit": Sine(),
    "md4": Sine(),
    "cosine": Cosine(),
    "polynomial": Polynomial(),
}
