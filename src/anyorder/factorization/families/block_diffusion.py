"""Block diffusion: blocks are autoregressive, masked diffusion works inside each."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import TokenFactorization
from anyorder.factorization.blocks import Block, Reader, even, sample_blocks, score_blocks, split
from anyorder.factorization.checks import UNKNOWN
from anyorder.factorization.draft import Draft
from anyorder.factorization.precision import widest
from anyorder.factorization.samplers import Sampler
from anyorder.factorization.slots import TokenNetwork
from anyorder.factorization.strata import random_masks, stratified_counts
from anyorder.factorization.unmasking import UnmaskingConfig
from anyorder.settings import setting


class BlockDiffusion(TokenFactorization):
    """The chain rule over blocks, the mean over all orders inside each (BD3-LM, arXiv 2503.09573).

    Formula: ``-log p(x | c) <= sum_b E_k E_M (|b| / k) sum_{i in M} -log p(x_i | x_{b, not M}, x_{<b}, c)`` with k
    uniform on 1..|b| and M a uniform k-subset of block b: the exact-count form in every block, k drawn for each block
    and stratified over the batch. Blocks of one token are autoregression, exactly; one block is masked diffusion.

    Training reads a clean and a noisy copy in one call, block-causal; sampling keeps finished blocks in the cache,
    exactly. Left out: the paper's clipped noise schedules.

    ``known`` may freeze whole blocks from the start, and any positions of the next block.

    Args:
        block_size: tokens per block; the last one may be shorter.
        sampler: in which order the tokens of a block are revealed.

    References:
        Arriola et al., 2025: "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language
            Models", arXiv 2503.09573.

    >>> from anyorder.factorization import Request
    >>> from anyorder.factorization.samplers import FirstHitting
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = BlockDiffusion(block_size=2, sampler=FirstHitting())
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[0, 1, 0],
            [1, 2, 0]])
    """

    infills = "prefix"

    def __init__(self, block_size: int, sampler: Sampler) -> None:
        self.block_size = block_size
        self.sampler = sampler
        # In blocks of one token nothing is random: the bound is the likelihood.
        self.exact = block_size == 1
        self.simulates = sampler.simulates or block_size == 1

    def blocks(self, network: TokenNetwork) -> list[Block]:
        """Return the blocks of the network's code."""
        return split(even(self.block_size, network.length), network.length)

    @override
    def calls(self, length: int) -> int:
        return sum(self.sampler.calls(size) if size > 1 else 1 for size in even(self.block_size, length))

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        counts = [
            stratified_counts(len(code), block.size, generator) if block.size > 1 else None
            for block in self.blocks(network)
        ]
        return -self.draw(network, code, network.prefill(context), counts, generator).sum(-1)

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return ``samples`` draws of each token's share of the bound; k is stratified over a sequence's draws.

        Where the bound is exact all draws are the same, and there is one.
        """
        samples = 1 if self.exact else samples
        blocks = self.blocks(network)
        cache = network.prefill(context)
        counts = [
            torch.stack([stratified_counts(samples, block.size, generator) for _ in range(len(code))], 1)
            if block.size > 1
            else None
            for block in blocks
        ]
        draws = []
        for sample in range(samples):
            chosen = [None if count is None else count[sample] for count in counts]
            draws.append(self.draw(network, code, cache, chosen, generator))
        return torch.stack(draws)

    def draw(
        self,
        network: TokenNetwork,
        code: Tensor,
        cache: object,
        counts: list[Tensor | None],
        generator: torch.Generator,
    ) -> Tensor:
        """Return one draw of each token's share of the bound, (batch, length), given k of each block, each (batch,)."""
        blocks = self.blocks(network)
        masked = torch.ones_like(code, dtype=torch.bool)
        weight = torch.ones(code.shape, dtype=widest(code.device), device=code.device)
        for block, count in zip(blocks, counts, strict=True):
            if count is not None:
                masked[:, block.first : block.last] = random_masks(count, block.size, generator)
                weight[:, block.first : block.last] = (block.size / count.double()).unsqueeze(1)
        shown = code.masked_fill(masked, UNKNOWN)
        scores = score_blocks(network, code, cache, blocks, shown)
        return scores * masked * weight.to(scores)

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        reader = Reader(network, context, self.blocks(network), joint=True, show=True)
        sample_blocks(draft, reader, self.sampler)
        if self.sampler.revises:
            draft.log_prob = None


@dataclass
class BlockDiffusionConfig(UnmaskingConfig, choice="block_diffusion"):
    """Block diffusion."""

    family = BlockDiffusion

    block_size: int = setting(6, "Tokens per block, one after the other.", least=1)

    def build(self) -> BlockDiffusion:
        """Make the factorization."""
        return BlockDiffusion(self.block_size, self.build_sampler())
