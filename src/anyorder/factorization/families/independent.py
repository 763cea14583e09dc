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
    """

    def __init__(self) -> None:
        super().__init__((1,), joint=False)

    def blocks(self, network: TokenNetwork) -> list[Block]:
        """Return the whole code as one block."""
        return [Block(0, network.length)]

    @override
    def calls(self, length: int) -> int:
        return 1


@dataclass
class IndependentConfig(FactorizationConfig, choice="independent"):
    """Independent tokens; it has no settings of its own."""

    def build(self) -> Independent:
        """Make the factorization."""
        return Independent()
