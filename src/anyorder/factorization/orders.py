"""Orders as data: in which order an autoregressive family writes the chain rule over a code."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, override

import torch
from torch import Tensor

from anyorder.factorization.categorical import uniforms


class Orders(ABC):
    """A law over orders of the positions 0..length-1; row j of an order is the position that comes j-th.

    Attributes:
        anneals: the law changes along training, so ``draw`` has to be told how far it is.
    """

    anneals: ClassVar[bool] = False

    @abstractmethod
    def draw(self, batch: int, length: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        """Draw one order a sequence, (batch, length), int64.

        ``progress`` is the moment of training, from 0 (its start) to 1 (its end); it matters where the law ``anneals``.
        """

    def every(self, length: int) -> Tensor | None:
        """Return all orders, equally likely, (orders, length); None where they are too many to list."""
        return None


@dataclass(frozen=True)
class LeftToRight(Orders):
    """The code's own order, always."""

    @override
    def draw(self, batch: int, length: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        return torch.arange(length, device=generator.device).expand(batch, length)

    @override
    def every(self, length: int) -> Tensor:
        return torch.arange(length).unsqueeze(0)


@dataclass(frozen=True)
class FixedOrders(Orders):
    """``count`` orders drawn once, of which each sequence gets one (arXiv 2507.15857, section 3.5).

    Order 0 is the identity, so one order is left to right. With ``local`` jitter order i is
    ``argsort(arange(length) + i * N(0, 1))``, near the identity for small i, as in the paper; else it is uniform.

    >>> FixedOrders(2, local=True).every(4)[0]
    tensor([0, 1, 2, 3])
    """

    count: int
    local: bool = False
    seed: int = 0

    @override
    def draw(self, batch: int, length: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        chosen = (uniforms((batch,), generator) * self.count).long()
        return self.every(length).to(chosen.device)[chosen]

    @override
    def every(self, length: int) -> Tensor:
        own = torch.Generator().manual_seed(self.seed)
        place = torch.arange(length)
        orders = [place]
        for i in range(1, self.count):
            noise = torch.randn(length, generator=own)
            orders.append(torch.argsort(place + i * noise if self.local else noise))
        return torch.stack(orders)


@dataclass(frozen=True)
class RandomOrders(Orders):
    """A fresh uniform order for every sequence and step (sigma-GPT, arXiv 2404.09562)."""

    @override
    def draw(self, batch: int, length: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        return uniforms((batch, length), generator).argsort(-1)


@dataclass(frozen=True)
class AnnealedOrders(Orders):
    """Random orders that give way to left to right during training (RAR, arXiv 2411.00776).

    A sequence gets a random order with probability 1 until ``start`` of training, which then falls linearly to 0 at
    ``end``. At progress 1, the default, it is the law of the end of training.
    """

    anneals: ClassVar[bool] = True
    start: float = 0.5
    end: float = 0.75

    @override
    def draw(self, batch: int, length: int, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        share = min(1.0, max(0.0, (self.end - progress) / max(self.end - self.start, 1e-9)))
        random = RandomOrders().draw(batch, length, generator)
        shuffled = uniforms((batch, 1), generator) < share
        return torch.where(shuffled, random, torch.arange(length, device=random.device))


def known_first(order: Tensor, known: Tensor) -> Tensor:
    """Move frozen positions to the front of their order, else keep it: (batch, length), ``known`` < 0 where free.

    >>> known_first(torch.tensor([[2, 0, 1]]), torch.tensor([[5, -1, -1]]))
    tensor([[0, 2, 1]])
    """
    free = (known < 0).gather(1, order)
    return order.gather(1, free.long().argsort(dim=1, stable=True))
