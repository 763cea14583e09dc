"""FAST: cosine transform, rounding and byte-pair encoding, decoded strictly.

Pertsch et al., FAST: Efficient Action Tokenization for Vision-Language-Action Models, 2025, arXiv 2501.09747.

The coefficients are the published ones. What differs is everything after them: the byte-pair encoding works on integers
instead of UTF-8 bytes; codes have one fixed length with END and PAD; coefficients beyond the fitted range are clamped
instead of dropped; and a sequence that does not stand for a chunk raises an error instead of becoming zeros.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor

from anyorder.errors import ConfigError, DecodeError
from anyorder.factorization.constraint import TokenAutomaton, count_automaton
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, chunks_to_fit
from anyorder.tokenizers.dct import MAX_MARGIN, MAX_SCALE, coefficient_range, idct, quantize
from anyorder.tokenizers.integer_bpe import MAX_TOKENS, IntegerBPE, fewest_tokens, learn_merges
from anyorder.weights import Rule

FEATURE_COEFFICIENTS = 3
"""``token_features`` shows this many coefficients of a token."""

FIT_CHUNKS = 20_000
"""Merges are learnt from at most this many chunks, evenly spaced over the data; alphabet and length from all."""


class FastTokenizer(ActionTokenizer):
    """DCT over time, rounding, integer BPE.

    The tokens are the symbols (coefficients ``low`` to ``high``), the BPE merges, END and PAD, in this order.
    A legal sequence has tokens that stand for exactly ``horizon * action_size`` coefficients, then END, then
    only PAD. A chunk whose code is too long loses its highest frequencies until it fits. While no coefficient
    is clamped or cut, the norm of the error over the chunk is at most
    ``0.5 / scale * sqrt(horizon * action_size)``, because the transform is orthonormal.

    Attributes:
        end_token: the END token.
        bpe: the byte-pair encoding; ``bpe.count`` says how many coefficients a token stands for.

    >>> chunks = torch.linspace(-1, 1, 8).repeat(4, 1).unsqueeze(-1)
    >>> tokenizer = FastConfig().fit(chunks)
    >>> tokens = tokenizer.encode(chunks)
    >>> bool((tokenizer.decode(tokens) - chunks).abs().max() < 0.1), tokenizer.constraint.accepts(tokens)
    (True, tensor([True, True, True, True]))
    """

    choice = "fast"

    def __init__(
        self, horizon: int, action_size: int, scale: float, low: int, high: int, merges: int, length: int
    ) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.scale = scale
        self.low = low
        self.high = high
        self.bpe = IntegerBPE(high - low + 1, merges)
        self.end_token = self.bpe.tokens
        self.pad_token: int = self.bpe.tokens + 1
        self.symbols: int = high - low + 1
        self.vocab_size = self.bpe.tokens + 2
        self.length = length
        self.max_rmse = 0.5 / scale
        self._constraint: tuple[Tensor, TokenAutomaton] | None = None

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        """Turn chunks into tokens, as the base class says; codes that are too long lose their highest frequencies."""
        symbols, _ = self._symbols(self.check_chunks(actions))
        tokens, lengths = self._code(symbols)
        long = (lengths >= self.length).nonzero().flatten()
        if len(long):
            tokens[long] = self._code(self._cut(symbols[long]))[0]
        return tokens

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens into chunks, as the base class says.

        Raises:
            DecodeError: a sequence is not legal; the message names the first such row and what is wrong with
                it.
        """
        tokens = self.check_tokens(tokens)
        content = self._check_legal(tokens)
        symbols = self.bpe.expand(tokens.masked_select(content))
        coefficients = (symbols + self.low).view(len(tokens), self.horizon, self.action_size)
        return (idct(coefficients) / self.scale).clamp(-1, 1).float()

    @override
    @torch.no_grad()
    def lossless(self, actions: Tensor) -> Tensor:
        """Say which chunks lose nothing but rounding: no coefficient clamped, none cut."""
        symbols, inside = self._symbols(self.check_chunks(actions))
        return inside & (self.bpe.encode(symbols)[1] < self.length)

    @property
    @override
    def constraint(self) -> TokenAutomaton:
        """States: coefficients so far (0 to all), then ended. Classes: coefficients per token, END, PAD."""
        count = self.bpe.count
        # Loading weights or a move to another device replaces the counts.
        if self._constraint is None or self._constraint[0] is not count:
            self._constraint = (count, count_automaton(count, self.horizon * self.action_size))
        return self._constraint[1]

    def rules(self) -> Iterator[Rule]:
        """Say that no token stands for more than a chunk, and that a chunk can be written in ``length`` tokens."""
        count, values = self.bpe.count, self.horizon * self.action_size
        yield Rule("bpe.count", count, count <= values, f"at most {values} coefficients a token")
        needed = fewest_tokens(torch.unique(count.cpu()).tolist(), values)
        short = torch.tensor(needed < self.length)
        yield Rule("bpe.merges", torch.tensor(needed), short, f"codes of less than {self.length} tokens")

    @override
    def token_features(self) -> Tensor:
        """Return the first ``FEATURE_COEFFICIENTS`` of each token, then how many it has, (vocab_size, 4).

        END and PAD stand far from everything and from each other.
        """
        count, spelling = self.bpe.count, self.spelling(FEATURE_COEFFICIENTS)
        table = torch.zeros(self.vocab_size, FEATURE_COEFFICIENTS + 1, device=count.device)
        table[:, :-1] = (spelling + self.low).masked_fill(spelling < 0, 0).float()
        # Lengths differ in kind, not by degree, so they weigh as much as several quantization steps.
        table[: self.bpe.tokens, -1] = 4.0 * count.clamp_max(8)
        table[self.end_token, -1] = -100.0
        table[self.pad_token, -1] = -200.0
        return table

    @override
    def spelling(self, longest: int) -> Tensor:
        count = self.bpe.count
        symbols, starts = self.bpe.expand(torch.arange(self.bpe.tokens, device=count.device)), count.cumsum(0) - count
        table = torch.full((self.vocab_size, longest), -1, device=count.device)
        for i in range(longest):
            longer = count > i
            table[: self.bpe.tokens][longer, i] = symbols[starts[longer] + i]
        return table

    @override
    def spec(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "action_size": self.action_size,
            "scale": self.scale,
            "low": self.low,
            "high": self.high,
            "merges": len(self.bpe.merges),
            "length": self.length,
        }

    def _symbols(self, chunks: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients as symbols (batch, count) and whether all were in range (batch,)."""
        coefficients = quantize(chunks, self.scale)
        clamped = coefficients.clamp(self.low, self.high)
        return clamped - self.low, (clamped == coefficients).all(1)

    def _code(self, symbols: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes (batch, length), cut off where too long, and their lengths without END (batch,)."""
        flat, lengths = self.bpe.encode(symbols)
        width = max(self.length, int(lengths.max()) + 1) if len(lengths) else self.length
        place = torch.arange(width, device=symbols.device)
        codes = symbols.new_full((len(symbols), width), self.pad_token)
        codes.masked_scatter_(place < lengths[:, None], flat)
        codes.scatter_(1, lengths[:, None], self.end_token)
        return codes[:, : self.length], lengths

    def _cut(self, symbols: Tensor) -> Tensor:
        """Zero the highest frequencies, as few coefficients as bisection finds, so that the codes fit.

        It ends, because zeros alone fit: ``FastConfig.fit`` sees to it.
        """
        place = torch.arange(symbols.shape[1], device=symbols.device)
        fits = torch.zeros_like(symbols[:, 0])
        too_many = torch.full_like(fits, symbols.shape[1])
        while bool((too_many - fits > 1).any()):
            kept = (fits + too_many) // 2
            lengths = self.bpe.encode(torch.where(place < kept[:, None], symbols, -self.low))[1]
            fits = torch.where(lengths < self.length, kept, fits)
            too_many = torch.where(lengths < self.length, too_many, kept)
        return torch.where(place < fits[:, None], symbols, -self.low)

    def _check_legal(self, tokens: Tensor) -> Tensor:
        """Return where tokens stand for coefficients, (batch, length) bool, or raise ``DecodeError``."""
        content = tokens < self.end_token
        size = content.sum(1)
        needed = self.horizon * self.action_size
        given = (self.bpe.count[tokens.clamp_max(self.end_token - 1)] * content).sum(1)
        place = torch.arange(self.length, device=tokens.device)
        # As many tokens as stand for coefficients, then END; elsewhere neither.
        before = content == (place < size[:, None])
        end = (tokens == self.end_token) == (place == size[:, None])
        wrong = ~(before & end).all(1) | (size == self.length) | (given != needed)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0])
            ends = (tokens[row] == self.end_token).nonzero().flatten().tolist()
            raise DecodeError(
                f"tokens, row {row}: {int(given[row])} coefficients and END at {ends or 'no place'} given, "
                f"allowed: {needed} coefficients, then END once, then only PAD"
            )
        return content


@dataclass
class FastConfig(TokenizerConfig, choice="fast"):
    """Settings of ``FastTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = FastTokenizer
    dial = "scale"
    dial_values = (2.75, 5.5, 11.0, 22.0, 44.0, 88.0)

    scale: float = setting(
        22.0,
        "Coefficients are rounded after multiplication with it; larger is finer and longer. Published: 10.",
        above=0,
        most=MAX_SCALE,
    )
    max_merges: int = setting(
        8,
        "Byte-pair merges. The first ones join runs of zeros, which is most of the compression. More make shorter "
        "codes of rarer tokens, and what a place in the code means then depends on all tokens before it: with few "
        "demonstrations, and for any-order models, a few merges learn much better.",
        least=0,
    )
    vocab_size: int = setting(
        1024,
        "Upper bound of the vocabulary: coefficients, merges, END and PAD. The published tokenizer fills it with "
        "merges (max_merges=4096).",
        least=4,
        most=MAX_TOKENS,
    )
    max_length: int = setting(
        0, "Tokens per code, END included; 0 takes the longest code of the data plus length_margin.", least=0
    )
    min_frequency: int = setting(2, "Occurrences a pair of tokens needs to be merged.", least=1)
    alphabet_margin: float = setting(
        0.25, "Part of the range of coefficients in the data that is added at both ends.", least=0, most=MAX_MARGIN
    )
    length_margin: float = setting(
        0.0, "Part of the longest code in the data that is added to it.", least=0, most=MAX_MARGIN
    )

    @override
    def fit(self, chunks: Tensor) -> FastTokenizer:
        """Learn alphabet, merges and length from chunks (count, horizon, action size).

        Raises:
            ConfigError: no chunks, a vocabulary smaller than the alphabet, or a ``max_length`` that not even
                the chunk of zeros fits in.
        """
        chunks = chunks_to_fit(chunks)
        count, horizon, action_size = chunks.shape
        # Part by part: float64 coefficients of all frames of a large dataset need not fit in memory.
        parts = torch.split(chunks, FIT_CHUNKS)
        extremes = [quantize(part, self.scale).aminmax() for part in parts]
        low, high = self._alphabet(min(int(e.min) for e in extremes), max(int(e.max) for e in extremes), horizon)
        alphabet = high - low + 1
        learnt_from = quantize(chunks[:: math.ceil(count / FIT_CHUNKS)], self.scale) - low
        room = min(self.max_merges, self.vocab_size - 2 - alphabet)
        merges = learn_merges(learnt_from, alphabet, room, self.min_frequency)
        bpe = IntegerBPE(alphabet, len(merges)).to(chunks.device).fill(merges)
        longest = max(int(bpe.encode(quantize(part, self.scale) - low)[1].max()) for part in parts)
        zeros = int(bpe.encode(torch.full_like(learnt_from[:1], -low))[1])
        length = self._length(longest, zeros, horizon * action_size)
        tokenizer = FastTokenizer(horizon, action_size, self.scale, low, high, len(merges), length)
        tokenizer.bpe = bpe
        return tokenizer

    def _alphabet(self, lowest: int, highest: int, horizon: int) -> tuple[int, int]:
        """Return the lowest and highest coefficient that get a token, given the data's; 0 always gets one."""
        low, high = coefficient_range(lowest, highest, self.scale, horizon, self.alphabet_margin)
        if high - low + 3 > self.vocab_size:
            allowed = f"at least {high - low + 3} (coefficients, END and PAD), or a smaller scale"
            raise ConfigError("vocab_size", self.vocab_size, allowed)
        return low, high

    def _length(self, longest: int, zeros: int, values: int) -> int:
        """Return tokens per code, given the longest code of the data and that of zeros, both without END."""
        if 0 < self.max_length <= zeros:
            raise ConfigError("max_length", self.max_length, f"0 or an integer > {zeros}")
        wanted = self.max_length or max(math.ceil(longest * (1 + self.length_margin)), zeros) + 1
        return min(wanted, values + 1)
