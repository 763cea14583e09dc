"""Independent tokens: every token is predicted from the observation alone."""

from dataclasses import dataclass
from typing import override

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.blocks import Block
from anyorder.factorization.families.chunked import Chunked
from anyorder.factorization.slots import TokenNetwork


class Independent(Chunked):
    """No token sees another.

    Formula: ``log p(x | c) = sum_i log p(x_i | c)``, exact, in one network call. With a token per action dimension
    (``bins``) it is what RT-1's released code does, whose masks remove every edge between actions (repository
    google-research/robotics_transformer). It cannot express that two tokens go together, so it fails where
    demonstrations disagree.

    References:
        Brohan et al., 2022: "RT-1: Robotics Transformer for Real-World Control at Scale", arXiv 2212.06817.

    >>> import torch
    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = Independent()
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[2, 1, 1],
            [2, 1, 2]])
    >>> family.log_prob(network, torch.tensor([[0, 1, 2]]), context(1), generator=torch.Generator()).value
    tensor([-2.8335], dtype=torch.float64)
    """

    def __init__(self) -> None:
        super().__init__((1,), joint=False)

    @override
    def blocks(self, network: TokenNetwork) -> list[Block]:
        """Return the whole code as one block."""
        return [Block(0, network.length)]

    @override
    def calls(self, length: int) -> int:
        return 1


@dataclass
class IndependentConfig(FactorizationConfig, choice="independent"):
    """Independent tokens; it has no settings of its own."""

    family = Independent
