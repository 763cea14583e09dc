"""Codes in blocks: which slots score a code block by block, and how blocks are drawn one after the other.

Two kinds of slots. *Carriers* hold the tokens of finished blocks; *queries* sit at the positions of the current block,
carry MASK (or a token already revealed), and predict their own position. A block of a single token needs no query: the
carrier of the token before it predicts it, as in autoregression, so blocks of one token are autoregression, slot by
slot, and one block is masked diffusion, slot by slot.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.base import Sample, Slots, TokenNetwork, in_place_slots
from anyorder.factorization.categorical import token_scores
from anyorder.factorization.checks import UNKNOWN, check_known
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.samplers import LeftToRight, Sampler
from anyorder.factorization.unmasking import unmask


@dataclass(frozen=True)
class Block:
    """Positions ``first`` to ``last``, the latter excluded."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many positions."""
        return self.last - self.first


def split(sizes: tuple[int, ...], length: int) -> list[Block]:
    """Return consecutive blocks of these sizes.

    Raises:
        ConfigError: the sizes do not sum to ``length``.

    >>> split((1, 2), 3)
    [Block(first=0, last=1), Block(first=1, last=3)]
    """
    if sum(sizes) != length or min(sizes) < 1:
        raise ConfigError("factorization blocks", sizes, f"sizes >= 1 that sum to {length}")
    ends = list(accumulate(sizes))
    return [Block(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def even(size: int, length: int) -> tuple[int, ...]:
    """Return the sizes of blocks of ``size``, the last one shorter where it does not divide ``length``.

    >>> even(2, 5)
    (2, 2, 1)
    """
    full, rest = divmod(length, size)
    return (size,) * full + ((rest,) if rest else ())


def carriers(network: TokenNetwork, tokens: Tensor, blocks: list[Block], index: int) -> Slots | None:
    """Return the slots that carry block ``index - 1``; START for block 0 if that is one token, else None.

    The last of them predicts block ``index`` if that is one token; the others predict nothing.
    """
    single = blocks[index].size == 1
    if index == 0 and not single:
        return None
    if index == 0:
        positions = tokens.new_full((len(tokens), 1), network.length)
        carried = torch.full_like(positions, network.vocab_size + 1)
    else:
        before = blocks[index - 1]
        positions = torch.arange(before.first, before.last, device=tokens.device).expand(len(tokens), -1)
        carried = tokens[:, before.first : before.last]
    targets = torch.full_like(positions, network.length)
    if single:
        targets[:, -1] = blocks[index].first
    return Slots(carried, positions, targets)


def score_blocks(
    network: TokenNetwork,
    tokens: Tensor,
    cache: Any,
    blocks: list[Block],
    shown: Tensor | None = None,
    joint: bool = True,
) -> Tensor:
    """Return log p(x_i | earlier blocks, shown tokens of its own block, c), (batch, length), nats, in one call.

    Args:
        network: the network to ask.
        tokens: codes (batch, length).
        cache: the prefilled context.
        blocks: of the code.
        shown: what the queries carry (batch, length), < 0 for MASK; all MASK when None. Blocks of one token have no
            query, so theirs is not read.
        joint: queries of one block see each other.
    """
    shown = torch.full_like(tokens, UNKNOWN) if shown is None else shown
    parts, level, query = [], [], []
    predictor = [0] * tokens.shape[1]
    count = 0
    for i in range(len(blocks)):
        slots = carriers(network, tokens, blocks, i)
        if slots is not None:
            size = slots.tokens.shape[1]
            parts.append(slots)
            level += [i - 1] * size
            query += [False] * size
            count += size
            if blocks[i].size == 1:
                predictor[blocks[i].first] = count - 1
    for i, block in enumerate(blocks):
        if block.size > 1:
            parts.append(in_place_slots(network, shown[:, block.first : block.last], block.first))
            level += [i] * block.size
            query += [True] * block.size
            predictor[block.first : block.last] = range(count, count + block.size)
            count += block.size
    slots = joined(parts)
    visible = visibility(torch.tensor(level), torch.tensor(query), joint).to(tokens.device)
    logits, _ = network(slots, cache, visible)
    return token_scores(logits[:, torch.tensor(predictor, device=tokens.device)], tokens)


def joined(parts: list[Slots]) -> Slots:
    """Return slots one after another."""
    return Slots(*(torch.cat(column, 1) for column in zip(*parts, strict=True)))


def visibility(level: Tensor, query: Tensor, joint: bool) -> Tensor:
    """Return which slots see which, boolean (slots, slots), given each slot's block and whether it is a query.

    Carriers see carriers up to their own block; queries see carriers of earlier blocks and, if ``joint``, the queries
    of their block, else only themselves. Nobody else sees a query.
    """
    mine, theirs = level.unsqueeze(1), level.unsqueeze(0)
    asks, carried = query.unsqueeze(1), ~query.unsqueeze(0)
    past = carried & torch.where(asks, theirs < mine, theirs <= mine)
    same = asks & ~carried & (theirs == mine)
    if not joint:
        same &= torch.eye(len(level), dtype=torch.bool)
    return past | same


def sample_blocks(
    network: TokenNetwork,
    context: Tensor,
    blocks: list[Block],
    sampler: Sampler,
    *,
    joint: bool,
    show: bool,
    generator: torch.Generator,
    temperature: float,
    nucleus: float,
    constraint: TokenAutomaton | None,
    known: Tensor | None,
) -> Sample:
    """Draw a code block by block; finished blocks are read once and stay in the cache, exactly.

    Args:
        network: the network to ask.
        context: encoded observation.
        blocks: of the code.
        sampler: in which order the tokens of a block are revealed.
        joint: queries of one block see each other.
        show: queries carry the tokens of their block that are revealed or known; else all carry MASK.
        generator: source of randomness.
        temperature: of the draws.
        nucleus: of the draws.
        constraint: only codes it accepts are drawn.
        known: frozen positions, a prefix of the blocks.

    Raises:
        ConfigError: ``known`` freezes a position after a block that is not all frozen.
    """
    tokens = check_known(known, context, network.length, network.vocab_size)
    check_block_prefix(tokens, blocks)
    legal = None if constraint is None else LegalTokens(constraint, tokens)
    cache = network.prefill(context)
    log_prob = torch.zeros(len(tokens), device=context.device)
    calls = processed = 0
    for i, block in enumerate(blocks):
        read = carriers(network, tokens, blocks, i)
        past = cache

        def ask(
            part: Tensor, i: int = i, block: Block = block, read: Slots | None = read, past: Any = past
        ) -> Tensor:
            """Return the block's logits, reading the block before it along with the first call."""
            nonlocal cache, processed
            unread = read if cache is past else None
            carried = part if show else torch.full_like(part, UNKNOWN)
            slots, visible = block_call(network, carried, block, i, unread, joint)
            processed += slots.tokens.shape[1]
            held = 0 if unread is None else unread.tokens.shape[1]
            logits, extended = network(slots, cache, visible, keep=held)
            cache = extended if held else cache
            return logits[:, -block.size :]

        part, score, made = unmask(
            ask,
            tokens[:, block.first : block.last],
            sampler if block.size > 1 else LeftToRight(1),
            first=block.first,
            generator=generator,
            temperature=temperature,
            nucleus=nucleus,
            legal=legal,
        )
        if not made and read is not None:
            # A block that was known in full asked nothing; later ones still have to see the one before it.
            _, cache = network(read, cache)
            calls, processed = calls + 1, processed + read.tokens.shape[1]
        tokens[:, block.first : block.last] = part
        log_prob, calls = log_prob + score, calls + made
    return Sample(tokens, log_prob, forwards=calls, slots=processed)


def block_call(
    network: TokenNetwork, part: Tensor, block: Block, index: int, unread: Slots | None, joint: bool
) -> tuple[Slots, Tensor]:
    """Return slots and visibility of one call: carriers not yet in the cache, then the block's queries, if any."""
    parts = [] if unread is None else [unread]
    level = [] if unread is None else [index - 1] * unread.tokens.shape[1]
    query = [False] * len(level)
    if block.size > 1:
        parts.append(in_place_slots(network, part, block.first))
        level += [index] * block.size
        query += [True] * block.size
    slots = joined(parts)
    return slots, visibility(torch.tensor(level), torch.tensor(query), joint).to(part.device)


def check_block_prefix(known: Tensor, blocks: list[Block]) -> None:
    """Refuse frozen positions after a block that is not all frozen: they could not be conditioned on."""
    frozen = known >= 0
    open_before = torch.zeros(len(known), dtype=torch.bool, device=known.device)
    for block in blocks:
        part = frozen[:, block.first : block.last]
        if bool((part.any(1) & open_before).any()):
            raise ConfigError("known", "positions with gaps", "a prefix of the blocks")
        open_before |= ~part.all(1)
