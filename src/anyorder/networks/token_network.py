"""How a code enters and leaves the trunk: slots of tokens in, conditionals out."""

import math

import torch
from torch import Tensor, nn

from anyorder.factorization.conditionals import Categorical, Conditionals, Mixture, Ordinal
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import Slots
from anyorder.networks.heads import OrdinalHead
from anyorder.networks.spelled_head import SpelledHead
from anyorder.networks.transformer import Cache, Transformer

FIRST_SHARE = 0.05
"""The share that the softmax has at first in a mixture with a head over numbers."""


class SlotNetwork(nn.Module):
    """Trunk with token slots: each is the sum of a token, a position and a target embedding.

    The output is a softmax tied to the token embeddings, a head over numbers, or a mixture of both.

    Args:
        trunk: the transformer.
        length: tokens in a code.
        vocab_size: number of tokens; inputs also know MASK = vocab_size and START = vocab_size + 1.
        levels: tokens of each level of the code, coarsest first; None where it has none.
        head: maps features to distributions over numbers, or over tokens by their numbers; None for the softmax.
        mixed: the head's distributions are mixed with the softmax, which starts with a share of ``FIRST_SHARE``.

    >>> from anyorder.networks.transformer import TransformerConfig
    >>> network = SlotNetwork(TransformerConfig(16, 1, 2).build(), length=4, vocab_size=10)
    >>> slots = Slots(*torch.zeros(3, 2, 4, dtype=torch.int64))
    >>> answer, cache = network(slots, network.prefill(torch.zeros(2, 1, 16)))
    >>> answer.logits.shape
    torch.Size([2, 4, 10])
    """

    def __init__(
        self,
        trunk: Transformer,
        length: int,
        vocab_size: int,
        levels: tuple[int, ...] | None = None,
        head: OrdinalHead | SpelledHead | None = None,
        mixed: bool = False,
    ) -> None:
        super().__init__()
        width = trunk.config.width
        self.trunk = trunk
        self.length = length
        self.levels = levels
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size + 2, width)
        self.position_embedding = nn.Embedding(length + 1, width)
        self.target_embedding = nn.Embedding(length + 1, width)
        self.head = head
        self.gate: nn.Linear | None = None
        if mixed:
            self.gate = nn.Linear(width, 1)
            nn.init.zeros_(self.gate.weight)
            nn.init.constant_(self.gate.bias, math.log(FIRST_SHARE / (1 - FIRST_SHARE)))
        if head is None or mixed:
            # A constant added to all logits changes no softmax. Score entropy does not normalize: at the start its
            # exp(logits) have to sum to about one, which a constant of -ln(vocab_size) brings about.
            self.bias = nn.Parameter(torch.full((vocab_size,), -math.log(vocab_size)))
        for table in (self.token_embedding, self.position_embedding, self.target_embedding):
            nn.init.normal_(table.weight, std=width**-0.5)

    @torch.no_grad()
    def place_tokens(self, features: Tensor) -> None:
        """Start tokens of near meaning near each other, so that with little data one learns from its neighbours.

        Args:
            features: numbers in which tokens of near meaning are near, (vocab_size, features).
        """
        table = self.token_embedding.weight
        table[: self.vocab_size] = smooth_embedding(features, table.shape[1]).to(table)

    def prefill(self, context: Tensor) -> Cache:
        """Encode context (batch, context tokens, width) once."""
        return self.trunk.prefill(context)

    def forward(
        self, slots: Slots, cache: Cache, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Conditionals, Cache]:
        """Return the slots' conditionals (batch, slots) and the extended cache; see ``TokenNetwork``."""
        x = (
            self.token_embedding(slots.tokens)
            + self.position_embedding(slots.positions)
            + self.target_embedding(slots.targets)
        )
        features, cache = self.trunk(x, cache, visible, keep)
        return self.answer(features, slots.targets), cache

    def answer(self, features: Tensor, targets: Tensor) -> Conditionals:
        """Map features (batch, slots, width) to the distributions of what stands at ``targets`` (batch, slots)."""
        if self.head is None:
            return self.free(features)
        numbers: Conditionals = self.head(features, targets)
        if self.gate is None:
            return numbers
        assert isinstance(numbers, Ordinal)  # a spelled head has a free part of its own
        return Mixture(numbers, self.free(features), at_least_float32(self.gate(features)).squeeze(-1))

    def free(self, features: Tensor) -> Categorical:
        """Map features (batch, slots, width) to the softmax over the vocabulary."""
        return Categorical(features @ self.embeddings().T + self.bias)

    def embeddings(self) -> Tensor:
        """Return the embedding of every token, (vocab_size, width)."""
        return self.token_embedding.weight[: self.vocab_size]

    def from_vectors(self, vectors: Tensor, cache: Cache) -> Conditionals:
        """Return conditionals (batch, length) given vectors in the place of embeddings, each in its position."""
        places = torch.arange(self.length, device=vectors.device)
        x = vectors.to(self.position_embedding.weight) + self.position_embedding(places) + self.target_embedding(places)
        return self.answer(self.trunk(x, cache)[0], places.expand(len(x), -1))


def smooth_embedding(features: Tensor, width: int) -> Tensor:
    """Draw embeddings whose inner products fall with the distance between ``features`` (tokens, features).

    Random Fourier features (Rahimi and Recht, 2007) at length scales of 1 to 30 units, norm 1 on average:
    ``sqrt(2 / width) cos(w x + b)``; shape (tokens, width). Drawn from torch's global generator, as all weights are.
    """
    scale = torch.exp(-torch.rand(width) * math.log(30.0))
    frequencies = torch.randn(features.shape[1], width) * scale
    phase = torch.rand(width) * 2 * math.pi
    embedding: Tensor = (2 / width) ** 0.5 * torch.cos(features.cpu().float() @ frequencies + phase)
    return embedding
