"""How a network is asked for the tokens of a code, one after the other in any order: by two layouts of slots."""

from abc import ABC, abstractmethod
from typing import Any, override

import torch
from torch import Tensor

from anyorder.factorization.blocks import joined
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.slots import Slots, TokenNetwork


class ChainReader(ABC):
    """Asks about the tokens of a code in an order; what is final is read once and stays in the cache.

    The token of *rank* j is the one that comes j-th. A reader asks for the ranks ``first`` to ``last``, the latter
    excluded: all of a code at once to score it, or one after the other to draw it.

    Args:
        network: the network to ask.
        context: encoded observation.
        order: the position that comes j-th, (batch, length).
    """

    def __init__(self, network: TokenNetwork, context: Tensor, order: Tensor) -> None:
        self.network, self.order = network, order
        self.cache: Any = network.prefill(context)
        self.read = 0
        """How many slots the cache holds."""

    @abstractmethod
    def ask(self, code: Tensor, first: int, last: int, visible: Tensor | None = None) -> Conditionals:
        """Return what the network says of the ranks ``first`` to ``last``, (batch, last - first), in one call.

        Args:
            code: codes (batch, length), of which the tokens of ranks below ``last - 1`` are read. Those below ``first``
                are final; those after may be guesses, which are read anew in the next call.
            first: the first rank that is asked for, higher than in any call before.
            last: where they end, excluded.
            visible: which rank sees which, (last, last) or (batch, last, last), where [j, i] says whether what asks for
                rank j, or carries rank j - 1, sees rank i - 1; all up to themselves when None.
        """


class Shifted(ChainReader):
    """The carrier of each token predicts the next one, as language models do: one slot a token.

    Slot j carries the token of rank j - 1 (START for j = 0), sits at its position and predicts rank j.

    Args:
        network: the network to ask.
        context: encoded observation.
        order: the position that comes j-th, (batch, length).
        target_positions: slots say which position they predict.
    """

    def __init__(self, network: TokenNetwork, context: Tensor, order: Tensor, target_positions: bool = True) -> None:
        super().__init__(network, context, order)
        self.target_positions = target_positions

    @override
    def ask(self, code: Tensor, first: int, last: int, visible: Tensor | None = None) -> Conditionals:
        read = self.read
        slots = shifted_slots(self.network, code, self.order, self.target_positions)
        if visible is None and last - read > 1:
            visible = causal(last, code.device)
        if visible is not None:
            visible = visible[..., read:, read:]
        asked = Slots(*(column[:, read:last] for column in slots))
        answer, self.cache = self.network(asked, self.cache, visible, keep=first + 1 - read)
        self.read = first + 1
        return answer[:, first - read :]


class Queries(ChainReader):
    """Each token is predicted by a MASK at its own position, as masked diffusion does: two slots a token.

    Carriers hold the tokens in place and predict nothing; the query of rank j sees the carriers of the ranks before it
    and itself, and nobody else sees it. So a token enters the network where it sits, and its probability leaves from
    where it sits, whatever the order. The queries are the second stream of XLNet's two-stream attention (Yang et al.,
    2019, arXiv 1906.08237), here with the weights and the attention of the first.
    """

    @override
    def ask(self, code: Tensor, first: int, last: int, visible: Tensor | None = None) -> Conditionals:
        network, order, read = self.network, self.order, self.read
        end = max(read, last - 1)
        places, asked = order[:, read:end], order[:, first:last]
        held = Slots(code.gather(1, places), places, torch.full_like(places, network.length))
        slots = joined([held, Slots(torch.full_like(asked, network.vocab_size), asked, asked)])
        past = causal(last, code.device) if visible is None else visible
        seen = past[..., 1 + read : 1 + end]
        rows = torch.cat([seen[..., 1 + read : 1 + end, :], seen[..., first:last, :]], -2)
        own = torch.eye(rows.shape[-2], dtype=torch.bool, device=code.device)[:, end - read :]
        both = torch.cat([rows, own.expand(*rows.shape[:-1], -1)], -1)
        answer, self.cache = network(slots, self.cache, both, keep=first - read)
        self.read = first
        return answer[:, end - read :]


def shifted_slots(network: TokenNetwork, code: Tensor, order: Tensor, target_positions: bool = True) -> Slots:
    """Return the slots that score a code (batch, length) in ``order`` (batch, length), each predicting the next."""
    batch, length = code.shape
    start = code.new_full((batch, 1), network.vocab_size + 1)
    previous = torch.cat([start, code.gather(1, order)[:, :-1]], 1)
    positions = torch.cat([order.new_full((batch, 1), length), order[:, :-1]], 1)
    targets = order if target_positions else torch.full_like(order, length)
    return Slots(previous, positions, targets)


def causal(length: int, device: torch.device) -> Tensor:
    """Return who sees whom when slots see all up to themselves, boolean (length, length)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
