"""Block diffusion: blocks are autoregressive, masked diffusion works inside each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import Sample, TokenFactorization, TokenNetwork
from anyorder.factorization.blocks import Block, even, sample_blocks, score_blocks, split
from anyorder.factorization.checks import UNKNOWN, require
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.factorization.families.masked_diffusion import random_masks, stratified_counts
from anyorder.factorization.precision import widest
from anyorder.factorization.samplers import Sampler
from anyorder.factorization.unmasking import UnmaskingConfig


class BlockDiffusion(TokenFactorization):
    """The chain rule over blocks, the mean over all orders inside each (BD3-LM, arXiv 2503.09573).

    Formula: ``-log p(x | c) <= sum_b E_k E_M (|b| / k) sum_{i in M} -log p(x_i | x_{b, not M}, x_{<b}, c)`` with k
    uniform on 1..|b| and M a uniform k-subset of block b: the exact-count form in every block, k drawn for each block
    and stratified over the batch. Blocks of one token are autoregression, exactly; one block is masked diffusion.

    Training reads a clean and a noisy copy in one call, block-causal; sampling keeps finished blocks in the cache,
    exactly. Left out: the paper's clipped noise schedules.

    Args:
        block_size: tokens per block; the last one may be shorter.
        sampler: in which order the tokens of a block are revealed.
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

    def forwards(self, length: int) -> int:
        """Return the sampler's steps, summed over the blocks."""
        return sum(self.sampler.forwards(size) if size > 1 else 1 for size in even(self.block_size, length))

    def loss(
        self, network: TokenNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return one draw of the bound's negative per sequence, nats."""
        counts = [
            stratified_counts(len(chunk), block.size, generator) if block.size > 1 else None
            for block in self.blocks(network)
        ]
        return -self.draw(network, chunk, network.prefill(context), counts, generator).sum(-1)

    def token_scores(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int,
    ) -> Tensor:
        """Return ``samples`` draws of each token's share of the bound; k is stratified over a sequence's draws.

        Where the bound is exact all draws are the same, and there is one.
        """
        samples = 1 if self.exact else samples
        blocks = self.blocks(network)
        cache = network.prefill(context)
        counts = [
            torch.stack([stratified_counts(samples, block.size, generator) for _ in range(len(tokens))], 1)
            if block.size > 1
            else None
            for block in blocks
        ]
        draws = []
        for sample in range(samples):
            chosen = [None if count is None else count[sample] for count in counts]
            draws.append(self.draw(network, tokens, cache, chosen, generator))
        return torch.stack(draws)

    def draw(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        cache: object,
        counts: list[Tensor | None],
        generator: torch.Generator,
    ) -> Tensor:
        """Return one draw of each token's share of the bound, (batch, length), given k of each block, each (batch,)."""
        blocks = self.blocks(network)
        masked = torch.ones_like(tokens, dtype=torch.bool)
        weight = torch.ones(tokens.shape, dtype=widest(tokens.device), device=tokens.device)
        for block, count in zip(blocks, counts, strict=True):
            if count is not None:
                masked[:, block.first : block.last] = random_masks(count, block.size, generator)
                weight[:, block.first : block.last] = (block.size / count.double()).unsqueeze(1)
        shown = tokens.masked_fill(masked, UNKNOWN)
        scores = score_blocks(network, tokens, cache, blocks, shown)
        return scores * masked * weight.to(scores)

    def sample(
        self,
        network: TokenNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Draw block by block; ``known`` may freeze whole blocks from the start, and any of the next block."""

        sample = sample_blocks(
            network,
            context,
            self.blocks(network),
            self.sampler,
            joint=True,
            show=True,
            generator=generator,
            temperature=temperature,
            nucleus=nucleus,
            constraint=constraint,
            known=known,
        )
        return (
            sample if not self.sampler.revises else Sample(sample.chunk, None, sample.forwards, sample.slots)
        )


@dataclass
class BlockDiffusionConfig(UnmaskingConfig, choice="block_diffusion"):
    """Block diffusion.

    Attributes:
        block_size: tokens per block, one after the other.
    """

    block_size: int = 6

    def build(self) -> BlockDiffusion:
        """Make the factorization."""
        require(self.block_size >= 1, "factorization.block_size", self.block_size, "an integer >= 1")
        return BlockDiffusion(self.block_size, self.build_sampler())
