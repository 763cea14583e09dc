"""What a family asks and a network answers: slots of tokens, of values or of vectors."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from anyorder.factorization.conditionals import Conditionals


class Slots(NamedTuple):
    """What a network reads; each of shape (batch, slots), int64.

    Attributes:
        tokens: a token, or ``vocab_size`` for MASK, ``vocab_size + 1`` for START.
        positions: where the token sits; ``length`` for START.
        targets: which position the answer predicts; ``length`` where that is not said, or nothing is asked.
    """

    tokens: Tensor
    positions: Tensor
    targets: Tensor


class TokenNetwork(Protocol):
    """A network over slots: tokens 0..vocab_size-1 plus the inputs MASK = vocab_size and START = vocab_size + 1.

    Positions are 0..length-1; the START slot sits at position ``length``.

    Attributes:
        length: tokens in a code.
        vocab_size: number of tokens.
        levels: how many tokens each level of the code has, coarsest first (the scales or frequencies of its tokenizer);
            they sum to ``length``. None where the code has none.
    """

    length: int
    vocab_size: int
    levels: tuple[int, ...] | None

    def prefill(self, context: Tensor) -> Any:
        """Encode the context (batch, context tokens, width) once; returns a cache that slots can attend to."""

    def __call__(
        self, slots: Slots, cache: Any, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Conditionals, Any]:
        """Return the conditionals of the slots' targets (batch, slots) and the cache extended by these slots.

        Slots see everything in the cache, and each other where ``visible`` (slots, slots) or (batch, slots, slots)
        is True; None means everywhere. The returned cache holds the first ``keep`` of them; all when None.
        """


class ValueNetwork(Protocol):
    """The same trunk over continuous slots, one per time step of the chunk.

    Attributes:
        horizon: slots.
        action_size: numbers in each.
        vocab_size: where the numbers stand for tokens, how many there are.
        limit: the largest absolute value of those numbers; infinity where they have none. It depends on how actions
            are normalized.
    """

    horizon: int
    action_size: int
    vocab_size: int | None
    limit: float

    def prefill(self, context: Tensor) -> Any:
        """Encode the context once; returns a cache that slots can attend to."""

    def __call__(self, values: Tensor, cache: Any, times: Tensor | None = None) -> Tensor:
        """Map values (batch, horizon, action size) and times in [0, 1] (batch,) to values of the same shape."""


class EmbeddingNetwork(Protocol):
    """A network over slots that also reads vectors in the place of tokens."""

    length: int
    vocab_size: int

    def prefill(self, context: Tensor) -> Any:
        """Encode the context once; returns a cache that slots can attend to."""

    def embeddings(self) -> Tensor:
        """Return the embedding of every token, (vocab_size, width)."""

    def from_vectors(self, vectors: Tensor, cache: Any) -> Conditionals:
        """Return conditionals (batch, length); vectors (batch, length, width) stand where embeddings do."""


class AskingNetwork:
    """A network that asks another one in its own way; what it does not say itself is the other's.

    Args:
        network: the network to ask, of any kind above.
    """

    def __init__(self, network: Any) -> None:
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, *asked: Any, **options: Any) -> Any:
        """Pass on."""
        return self.network(*asked, **options)


def in_place_slots(network: TokenNetwork, code: Tensor, first: int = 0) -> Slots:
    """Return the slots in which every token, MASK where unknown, predicts its own position, from ``first`` on."""
    positions = torch.arange(first, first + code.shape[1], device=code.device).expand_as(code)
    return Slots(torch.where(code < 0, network.vocab_size, code), positions, positions)
