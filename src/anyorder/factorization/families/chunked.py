"""Chunked autoregression: blocks one after the other, the tokens of a block all at once."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.base import FactorizationConfig, TokenFactorization
from anyorder.factorization.blocks import Block, Reader, even, sample_blocks, score_blocks, split
from anyorder.factorization.draft import Draft
from anyorder.factorization.samplers import CodeOrder
from anyorder.factorization.slots import TokenNetwork
from anyorder.settings import setting


class Chunked(TokenFactorization):
    """Blocks are autoregressive; inside one, tokens are independent given the blocks before it.

    Formula: ``log p(x | c) = sum_b sum_{i in b} log p(x_i | x_{<b}, c)``, exact. A network call per block. With
    ``joint`` the block's queries attend to each other, as in ARP (arXiv 2410.03132); the conditionals still factorise.
    Blocks of one token are autoregression; one block is a single shot.

    Left out: ARP's heads per token type.

    ``known`` may freeze whole blocks from the start, and any positions of the next block.

    Args:
        sizes: of the blocks, in code order; the last size repeats to the end of the code.
        joint: queries of a block see each other.

    References:
        Zhang et al., 2024: "Autoregressive Action Sequence Learning for Robotic Manipulation",
            arXiv 2410.03132.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = Chunked((2, 1))
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[2, 1, 0],
            [0, 2, 2]])
    >>> family.log_prob(network, torch.tensor([[0, 1, 2]]), context(1), generator=torch.Generator()).value
    tensor([-2.5117], dtype=torch.float64)
    """

    exact = True
    infills = "prefix"

    def __init__(self, sizes: tuple[int, ...], joint: bool = True) -> None:
        self.sizes = sizes
        self.joint = joint

    def blocks(self, network: TokenNetwork) -> list[Block]:
        """Return the blocks of the network's code."""
        return split(repeat_last(self.sizes, network.length), network.length)

    @override
    def calls(self, length: int) -> int:
        return len(repeat_last(self.sizes, length))

    def scores(self, network: TokenNetwork, code: Tensor, context: Tensor) -> Tensor:
        """Return log p(x_i | earlier blocks, c), (batch, length), nats."""
        cache = network.prefill(context)
        return score_blocks(network, code, cache, self.blocks(network), joint=self.joint)

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return each token's log-conditional, (1, batch, length)."""
        return self.scores(network, code, context).unsqueeze(0)

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        # Tokens of a block are independent: one that is known must not be shown to the others.
        reader = Reader(network, context, self.blocks(network), joint=self.joint, show=False)
        sample_blocks(draft, reader, CodeOrder(1))


def repeat_last(sizes: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Return the sizes, the last one repeated as often as the code needs and cut at its end.

    >>> repeat_last((1, 3), 6)
    (1, 3, 2)
    """
    filled = []
    left = length
    for size in sizes[:-1]:
        filled.append(min(size, left))
        left -= filled[-1]
    return tuple(size for size in filled if size) + (even(sizes[-1], left) if left else ())


@dataclass
class ChunkedConfig(FactorizationConfig, choice="chunked"):
    """Chunked autoregression."""

    family = Chunked

    sizes: list[int] = setting([6], "Tokens of each block; the last number repeats to the end of the code.", least=1)
    joint: bool = setting(True, "Positions predicted together attend to each other.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sizes:
            raise ConfigError("sizes", self.sizes, "one or more integers >= 1")

    def build(self) -> Chunked:
        """Make the factorization."""
        return Chunked(tuple(self.sizes), self.joint)
