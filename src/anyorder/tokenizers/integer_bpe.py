"""Byte-pair encoding (BPE) over integers: no bytes, no text, a whole batch at once.

BPE merges the adjacent pair of lowest rank, leftmost first, until no pair can be merged. Sequences are
encoded in parallel here, and exactly. A pair (x, y) of rank r is merged at once when nothing can take x or y
away before rank r comes up. Its right neighbour z may first grow into a token w that starts with z, so
``reach_right[y, z]``, the lowest rank of a merge (y, w) over all such w, must not be below r; likewise
``reach_left`` for what may take x. (Two neighbours that both look harmless by their present ranks are not
enough: the neighbour can change.) A merge that nothing can prevent may be done early without changing the
result, because a token takes part only in merges of higher rank than the one that made it. Where few pairs
are safe, each unfinished row takes an ordinary BPE step as well.
"""

import json

import torch
from tokenizers import Tokenizer, models, trainers
from torch import Tensor, nn

from anyorder.errors import CheckpointError

MAX_TOKENS = 4096
"""No vocabulary is larger; the table of pairs takes 8 bytes times its square."""

NEVER = torch.iinfo(torch.int16).max
"""A pair that no merge joins has this rank."""

MAX_SPELLED = 2**24
"""All tokens together stand for at most this many symbols: merges of merges double them, and all are written out."""

ROWS_AT_ONCE = 2048
"""This many sequences are encoded together: enough to hide a call's cost, few enough for the processor's cache."""

# Symbols travel through the trainer as CJK characters: one block of 20 992, none with a meaning for it.
FIRST_CHARACTER = 0x4E00


def learn_merges(sequences: Tensor, symbols: int, max_merges: int, min_frequency: int) -> Tensor:
    """Learn BPE merges from integer sequences with the Rust ``tokenizers`` library.

    Args:
        sequences: (count, length), integers in [0, symbols).
        symbols: size of the alphabet.
        max_merges: upper bound; fewer are learnt when no pair is frequent enough.
        min_frequency: occurrences a pair needs to be merged.

    Returns:
        Pairs of token ids in the order of rank, (merges, 2), int64; merge ``r`` makes token ``symbols + r``.

    >>> learn_merges(torch.tensor([[0, 1, 0, 1, 2]]), symbols=3, max_merges=5, min_frequency=2)
    tensor([[0, 1]])
    """
    alphabet = [chr(FIRST_CHARACTER + i) for i in range(symbols)]
    model = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=symbols + max_merges,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        limit_alphabet=symbols,
        special_tokens=[],
        show_progress=False,
    )
    model.train_from_iterator(("".join(alphabet[i] for i in row) for row in sequences.tolist()), trainer)
    ids = {character: i for i, character in enumerate(alphabet)}
    merges: list[tuple[int, int]] = []
    for left, right in json.loads(model.to_str())["model"]["merges"]:
        # Two merges may spell the same token; keeping the first gives every token one rank.
        if left + right not in ids:
            ids[left + right] = symbols + len(merges)
            merges.append((ids[left], ids[right]))
    return torch.tensor(merges, dtype=torch.int64).reshape(-1, 2)


class IntegerBPE(nn.Module):
    """BPE with fixed merges between sequences of ``symbols`` integers and tokens.

    Token ``i < symbols`` stands for symbol ``i``, token ``symbols + r`` for what merge ``r`` joins, so every
    sequence has a code. Only ``merges`` is saved; the other tables follow from it.

    Attributes:
        tokens: number of tokens, symbols and merges.
        merges: pairs of tokens in the order of rank, (merges, 2).
        count: symbols each token stands for, (tokens,).

    >>> bpe = IntegerBPE(symbols=3, merges=2).fill(torch.tensor([[0, 1], [3, 2]]))
    >>> codes, lengths = bpe.encode(torch.tensor([[0, 1, 2], [2, 0, 1]]))
    >>> codes, lengths
    (tensor([4, 2, 3]), tensor([1, 2]))
    >>> bpe.expand(codes)
    tensor([0, 1, 2, 2, 0, 1])
    """

    merges: Tensor
    count: Tensor
    pairs: Tensor
    spelling: Tensor
    spelling_start: Tensor

    def __init__(self, symbols: int, merges: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.tokens = symbols + merges
        self.register_buffer("merges", torch.zeros(merges, 2, dtype=torch.int64))
        for derived in ("count", "pairs", "spelling", "spelling_start"):
            self.register_buffer(derived, torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_load_state_dict_post_hook(_derive_tables)  # type: ignore[no-untyped-call]

    def fill(self, merges: Tensor) -> "IntegerBPE":
        """Set the merges (merges, 2) and return self.

        Raises:
            CheckpointError: a merge uses a token that no earlier merge makes.
        """
        self.merges.copy_(merges)
        _derive_tables(self, None)
        return self

    def encode(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        """Encode integer sequences (batch, symbols each) in [0, symbols).

        Returns:
            All codes one after another, (total,), int64, and the length of each, (batch,), int64.
        """
        parts = [self._encode(rows) for rows in torch.split(sequences, ROWS_AT_ONCE)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def expand(self, codes: Tensor) -> Tensor:
        """Spell out tokens (total,) as symbols, (sum of their counts,)."""
        counts = self.count.index_select(0, codes)
        starts = counts.cumsum(0) - counts
        shift = torch.repeat_interleave(self.spelling_start.index_select(0, codes) - starts, counts)
        return self.spelling.index_select(0, shift + torch.arange(len(shift), device=codes.device))

    def _encode(self, sequences: Tensor) -> tuple[Tensor, Tensor]:
        # One line of tokens for the whole batch; the separator after each row joins with nothing.
        line = self._merge(nn.functional.pad(sequences, (0, 1), value=self.tokens).flatten())
        separator = line == self.tokens
        return line.masked_select(~separator), _gaps(separator) - 1

    def _merge(self, line: Tensor) -> Tensor:
        """Merge what can be merged in a line of rows, each with a separator at its end."""
        while True:
            # index_select and masked_select: several times faster on a CPU than the same with brackets.
            key = torch.add(line[1:], line[:-1], alpha=self.tokens + 1)
            pairs = self.pairs.index_select(0, key).view(torch.int16).view(-1, 4)
            rank = pairs[:, 0]
            first = self._safe(rank, pairs[:, 1], pairs[:, 2])
            if len(first) <= len(line) // 32:
                separator = line == self.tokens
                row = separator.cumsum(0) - separator.long()
                lowest, unfinished = self._lowest(rank, row)
                if len(lowest) == 0:
                    return line
                if 2 * len(unfinished) < int(row[-1]) + 1:
                    return self._merge_rows(line, row, unfinished)
                first = torch.unique(torch.cat([first, lowest]))
            line = line.index_copy(0, first, self.symbols + rank.index_select(0, first).long())
            keep = torch.ones_like(line, dtype=torch.bool).index_fill_(0, first + 1, False)
            line = line.masked_select(keep)

    def _merge_rows(self, line: Tensor, row: Tensor, unfinished: Tensor) -> Tensor:
        """Go on with the unfinished rows of a line alone and put the outcome back in its place."""
        lengths = torch.bincount(row)
        chosen = torch.zeros_like(lengths, dtype=torch.bool).index_fill_(0, unfinished, True)
        inside = chosen.index_select(0, row)
        merged = self._merge(line.masked_select(inside))
        lengths[unfinished] = _gaps(merged == self.tokens)
        inside_after = torch.repeat_interleave(chosen, lengths)
        result = line.new_empty(len(inside_after))
        result.masked_scatter_(inside_after, merged)
        return result.masked_scatter_(~inside_after, line.masked_select(~inside))

    @staticmethod
    def _safe(rank: Tensor, reach_left: Tensor, reach_right: Tensor) -> Tensor:
        """Find pairs that may be merged at once; returns the positions of their first tokens."""
        candidate = rank != NEVER
        candidate[:-1] &= rank[:-1] <= reach_right[1:]
        candidate[1:] &= rank[1:] <= reach_left[:-1]
        first = candidate.nonzero().flatten()
        if len(first) == 0:
            return first
        # In a run of overlapping pairs (a a a a) every other one counts, from the left; and the run may only
        # start where no pair of the same rank can appear on its left.
        starts = torch.diff(first, prepend=first.new_full((1,), -2)) != 1
        before = (first - 1).clamp_min(0)
        free = starts & ((first == 0) | (rank.index_select(0, first) < reach_left.index_select(0, before)))
        index = torch.arange(len(first), device=first.device)
        run = torch.cummax(torch.where(starts, index, 0), 0).values
        return first.masked_select(free.index_select(0, run) & ((index - run) & 1 == 0))

    @staticmethod
    def _lowest(rank: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Find the leftmost pair of lowest rank in each unfinished row: first tokens' positions, and rows."""
        place = (rank != NEVER).nonzero().flatten()
        unfinished, group = torch.unique_consecutive(row.index_select(0, place), return_inverse=True)
        key = rank.index_select(0, place).long() * len(row) + place
        lowest = key.new_full((len(unfinished),), torch.iinfo(torch.int64).max)
        return lowest.scatter_reduce(0, group, key, "amin") % len(row), unfinished


def _gaps(mark: Tensor) -> Tensor:
    """Return the lengths of the pieces of a line, given where each piece has its last element."""
    ends = mark.nonzero().flatten()
    return torch.diff(ends, prepend=ends.new_full((1,), -1))


def _derive_tables(bpe: IntegerBPE, _: object) -> None:
    """Compute all tables from the merges; runs after ``fill`` and after a state dict was loaded."""
    merges, symbols, tokens = bpe.merges.cpu(), bpe.symbols, bpe.tokens
    newest = torch.arange(symbols, tokens)
    if bool((merges < 0).any()) or bool((merges >= newest[:, None]).any()):
        raise CheckpointError("tokenizer: its BPE merges are damaged, a merge uses a token that does not exist yet")

    sizes = [1] * symbols
    for left, right in merges.tolist():
        sizes.append(sizes[left] + sizes[right])
        if sizes[-1] > MAX_SPELLED:
            break
    if sum(sizes) > MAX_SPELLED:
        raise CheckpointError("tokenizer's BPE merges", sum(sizes), f"at most {MAX_SPELLED} symbols in all tokens")
    spelling = [[i] for i in range(symbols)]
    for left, right in merges.tolist():
        spelling.append(spelling[left] + spelling[right])
    count = torch.tensor([len(s) for s in spelling])

    # One more row and column for the separator, which joins with nothing.
    rank = torch.full((tokens + 1, tokens + 1), NEVER, dtype=torch.int16)
    rank[merges[:, 0], merges[:, 1]] = torch.arange(len(merges), dtype=torch.int16)
    reach_left, reach_right = rank.clone(), rank.clone()
    # Latest first: what holds for a token holds for the token it starts (or ends) with.
    for token in range(tokens - 1, symbols - 1, -1):
        left, right = merges[token - symbols].tolist()
        torch.minimum(reach_right[:, left], reach_right[:, token], out=reach_right[:, left])
        torch.minimum(reach_left[right], reach_left[token], out=reach_left[right])
    # The three ranks of a pair share one int64, so that a pair costs one look-up.
    packed = torch.stack([rank, reach_left, reach_right, torch.zeros_like(rank)], -1).view(torch.int64)

    device = bpe.merges.device
    bpe.count = count.to(device)
    bpe.pairs = packed.flatten().to(device)
    bpe.spelling = torch.tensor([symbol for s in spelling for symbol in s]).to(device)
    bpe.spelling_start = (count.cumsum(0) - count).to(device)


def fewest_tokens(counts: list[int], values: int) -> int:
    """Return how many tokens, each of one of ``counts`` symbols, it takes at least to write ``values`` of them.

    >>> fewest_tokens([1, 4], 11)
    5
    """
    fewest = [0]
    for total in range(1, values + 1):
        fewest.append(1 + min((fewest[total - count] for count in counts if count <= total), default=values))
    return fewest[values]
