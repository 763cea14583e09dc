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
from anyorder.factorization.checks import UNKNOWN
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.draft import Draft
from anyorder.factorization.samplers import CodeOrder, Sampler
from anyorder.factorization.slots import Slots, TokenNetwork, in_place_slots
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


def carriers(network: TokenNetwork, code: Tensor, blocks: list[Block], index: int) -> Slots | None:
    """Return the slots that carry block ``index - 1``; START for block 0 if that is one token, else None.

    The last of them predicts block ``index`` if that is one token; the others predict nothing.
    """
    single = blocks[index].size == 1
    if index == 0 and not single:
        return None
    if index == 0:
        positions = code.new_full((len(code), 1), network.length)
        carried = torch.full_like(positions, network.vocab_size + 1)
    else:
        before = blocks[index - 1]
        positions = torch.arange(before.first, before.last, device=code.device).expand(len(code), -1)
        carried = code[:, before.first : before.last]
    targets = torch.full_like(positions, network.length)
    if single:
        targets[:, -1] = blocks[index].first
    return Slots(carried, positions, targets)


def score_blocks(
    network: TokenNetwork,
    code: Tensor,
    cache: Any,
    blocks: list[Block],
    shown: Tensor | None = None,
    joint: bool = True,
) -> Tensor:
    """Return log p(x_i | earlier blocks, shown tokens of its own block, c), (batch, length), nats, in one call.

    Args:
        network: the network to ask.
        code: codes (batch, length).
        cache: the prefilled context.
        blocks: of the code.
        shown: what the queries carry (batch, length), < 0 for MASK; all MASK when None. Blocks of one token have no
            query, so theirs is not read.
        joint: queries of one block see each other.
    """
    shown = torch.full_like(code, UNKNOWN) if shown is None else shown
    parts, level, query = [], [], []
    predictor = [0] * code.shape[1]
    count = 0
    for i in range(len(blocks)):
        slots = carriers(network, code, blocks, i)
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
    visible = visibility(torch.tensor(level), torch.tensor(query), joint).to(code.device)
    answer, _ = network(slots, cache, visible)
    return answer[:, torch.tensor(predictor, device=code.device)].log_prob(code)


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


class Reader:
    """Asks about one block after the other; a finished block is read along with the next call, and stays in the cache.

    Args:
        network: the network to ask.
        context: encoded observation.
        blocks: of the code.
        joint: queries of one block see each other.
        show: queries carry the tokens of their block that are revealed or known; else all carry MASK.
    """

    def __init__(self, network: TokenNetwork, context: Tensor, blocks: list[Block], *, joint: bool, show: bool) -> None:
        self.network, self.blocks = network, blocks
        self.joint, self.show = joint, show
        self.cache = network.prefill(context)
        self.index = 0
        self.unread: Slots | None = None

    def turn_to(self, index: int, code: Tensor) -> None:
        """Go on to a block, those before it being finished in ``code`` (batch, length)."""
        if self.unread is not None:
            # A block that was known in full asked nothing; later ones still have to see the one before it.
            _, self.cache = self.network(self.unread, self.cache)
        self.index = index
        self.unread = carriers(self.network, code, self.blocks, index) if index < len(self.blocks) else None

    def ask(self, part: Tensor) -> Conditionals:
        """Return what the network says of the block, given it as it stands (batch, block)."""
        size, index = self.blocks[self.index].size, self.index
        parts, level, query = [], [], []
        if self.unread is not None:
            parts.append(self.unread)
            level += [index - 1] * self.unread.tokens.shape[1]
        held = len(level)
        query += [False] * held
        if size > 1:
            carried = part if self.show else torch.full_like(part, UNKNOWN)
            parts.append(in_place_slots(self.network, carried, self.blocks[index].first))
            level += [index] * size
            query += [True] * size
        visible = visibility(torch.tensor(level), torch.tensor(query), self.joint).to(part.device)
        answer, extended = self.network(joined(parts), self.cache, visible, keep=held)
        if held:
            self.cache, self.unread = extended, None
        return answer[:, -size:]


def sample_blocks(draft: Draft, reader: Reader, sampler: Sampler) -> None:
    """Draw a code block by block; finished blocks are read once and stay in the cache, exactly.

    Args:
        draft: the code; what it knows is a prefix of the blocks.
        reader: asks the network.
        sampler: in which order the tokens of a block are revealed.

    Raises:
        ConfigError: a position is known after a block that is not known in full.
    """
    check_block_prefix(draft.code, reader.blocks)
    for i, block in enumerate(reader.blocks):
        reader.turn_to(i, draft.code)
        unmask(draft, sampler if block.size > 1 else CodeOrder(1), reader.ask, block.first, block.last)
    reader.turn_to(len(reader.blocks), draft.code)


def check_block_prefix(known: Tensor, blocks: list[Block]) -> None:
    """Refuse frozen positions after a block that is not all frozen: they could not be conditioned on."""
    frozen = known >= 0
    open_before = torch.zeros(len(known), dtype=torch.bool, device=known.device)
    for block in blocks:
        part = frozen[:, block.first : block.last]
        if bool((part.any(1) & open_before).any()):
            raise ConfigError("known", "positions with gaps", "a prefix of the blocks")
        open_before |= ~part.all(1)
