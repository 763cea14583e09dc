"""A head for tokens that are several numbers in a row, as those of byte pairs over coefficients."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyorder.factorization.conditionals import Categorical
from anyorder.factorization.precision import Precise, at_least_float32
from anyorder.networks.heads import OrdinalHead
from anyorder.weights import Rule

UNSPELLED = -1
"""Stands where a token has no further number."""


class SpelledHead(Precise):
    """Maps features to distributions over tokens that are spelled with numbers, those of like spelling alike.

    Formula, with c_1, c_2, ... the numbers that token v is spelled with:
    ``log P(v) = sum_j log q_j(c_j) + f_v - log Z``. Each q_j is a mixture of logistics over numbers (``Ordinal``), for
    the first few numbers of a token. The free f_v is learnt for the tokens that are not one number alone: it has what a
    mixture of logistics cannot say, as how long a run of zeros is, or that a code ends. Z normalizes over the
    vocabulary.

    Args:
        width: of the features.
        length: tokens in a code.
        symbols: how many numbers there are; the first tokens are one of them each, in order.
        vocab_size: number of tokens.
        longest: how many numbers of a token count.
        components: logistics in a mixture.

    >>> head = SpelledHead(8, length=4, symbols=5, vocab_size=7, longest=2, components=3)
    >>> head.spell(torch.tensor([[0, -1], [1, -1], [2, -1], [3, -1], [4, -1], [2, 2], [-1, -1]]))
    >>> head(torch.zeros(2, 4, 8), torch.arange(4).expand(2, 4)).logits.shape
    torch.Size([2, 4, 7])
    """

    spelling: Tensor

    def __init__(self, width: int, length: int, symbols: int, vocab_size: int, longest: int, components: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.numbers = OrdinalHead(width, length, (symbols,) * longest, components)
        self.free = nn.Linear(width, vocab_size - symbols)
        nn.init.zeros_(self.free.weight)
        # All numbers together have probability 1 before normalization, and so have all other tokens together at first.
        nn.init.constant_(self.free.bias, -math.log(max(1, vocab_size - symbols)))
        self.register_buffer("spelling", torch.full((vocab_size, longest), UNSPELLED))

    @torch.no_grad()
    def spell(self, spelling: Tensor) -> None:
        """Take the numbers that each token is spelled with, (vocab_size, longest), ``UNSPELLED`` where there are none.

        Raises:
            ValueError: one of the first tokens is not its own number alone.
        """
        alone = torch.full_like(spelling[: self.symbols], UNSPELLED)
        alone[:, 0] = torch.arange(self.symbols)
        if not torch.equal(spelling[: self.symbols], alone):
            raise ValueError("the first tokens have to be one number each, in order")
        self.spelling.copy_(spelling)

    def rules(self) -> Iterator[Rule]:
        """Say which numbers a token may be spelled with."""
        there = (self.spelling >= UNSPELLED) & (self.spelling < self.symbols)
        yield Rule("spelling", self.spelling, there, f"integers from {UNSPELLED} to {self.symbols - 1}")

    def place(self, mean: Tensor, spread: Tensor) -> None:
        """Start from mean and standard deviation of each number of the tokens at each position, (length, longest)."""
        self.numbers.place(mean, spread)

    def forward(self, features: Tensor, targets: Tensor) -> Categorical:
        """Map features (batch, slots, width) to the distributions of what stands at ``targets`` (batch, slots)."""
        laws = self.numbers(features, targets).marginals(self.numbers.sizes)
        scores = torch.zeros_like(laws[0][..., :1])
        for law, number in zip(laws, self.spelling.unbind(1), strict=True):
            known = law.index_select(-1, number.clamp_min(0))
            scores = scores + known.masked_fill(number < 0, 0.0)
        with torch.autocast(features.device.type, enabled=False):
            free = F.linear(at_least_float32(features), self.free.weight.to(scores), self.free.bias.to(scores))
        return Categorical(torch.cat([scores[..., : self.symbols], scores[..., self.symbols :] + free], -1))
