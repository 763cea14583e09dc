"""Coarse to fine: the levels of a code one after the other, frequencies or scales."""

from dataclasses import dataclass
from typing import override

from anyorder.errors import ConfigError
from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.blocks import Block, split
from anyorder.factorization.families.chunked import Chunked
from anyorder.factorization.slots import TokenNetwork


class NextLevel(Chunked):
    """Chunked autoregression whose blocks are the levels of the tokenizer, coarsest first.

    Formula: ``log p(x | c) = sum_k log p(level_k | level_<k, c)``, tokens of one level independent given the coarser
    ones; exact; a network call per level. Over scales of a residual quantiser it is next-scale prediction (VAR, arXiv
    2404.02905; CARP, arXiv 2412.06782), over the frequencies of a DCT next-frequency prediction.

    Left out: VAR's input of a scale, the upsampled sum of the coarser ones; here a level reads the tokens themselves.

    Args:
        meaning: what the levels are, for messages.

    References:
        Tian et al., 2024: "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale
            Prediction", arXiv 2404.02905.
        Gong et al., 2024: "CARP: Visuomotor Policy Learning via Coarse-to-Fine Autoregressive Prediction",
            arXiv 2412.06782.

    >>> import torch
    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3, levels=(1, 2))
    >>> family = NextLevel("scales")
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[2, 0, 2],
            [2, 1, 2]])
    >>> family.log_prob(network, torch.tensor([[0, 1, 2]]), context(1), generator=torch.Generator()).value
    tensor([-2.6502], dtype=torch.float64)
    """

    needs_levels = True

    def __init__(self, meaning: str) -> None:
        super().__init__((1,))
        self.meaning = meaning

    @override
    def check(self, network: TokenNetwork) -> None:
        """Refuse a code without levels."""
        self.blocks(network)

    @override
    def blocks(self, network: TokenNetwork) -> list[Block]:
        """Return the levels of the network's code.

        Raises:
            ConfigError: the code has no levels.
        """
        if network.levels is None:
            allowed = f"a tokenizer whose code has {self.meaning} as levels, {TOKENIZERS[self.meaning]}"
            raise ConfigError("tokenizer", "a code without levels", allowed)
        return split(network.levels, network.length)

    @override
    def calls(self, length: int) -> int:
        return length


TOKENIZERS = {"frequencies": "such as dct", "scales": "such as multiscale_vq"}


@dataclass
class NextFrequencyConfig(FactorizationConfig, choice="next_frequency"):
    """Next-frequency prediction, over the ``dct`` tokenizer; it has no settings of its own."""

    family = NextLevel

    def build(self) -> NextLevel:
        """Make the factorization."""
        return NextLevel("frequencies")


@dataclass
class NextScaleConfig(FactorizationConfig, choice="next_scale"):
    """Next-scale prediction, over the ``multiscale_vq`` tokenizer; it has no settings of its own."""

    family = NextLevel

    def build(self) -> NextLevel:
        """Make the factorization."""
        return NextLevel("scales")
