"""Quantized DCT coefficients without byte pairs: one token each, a fixed number, lowest frequency first."""

from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, check_vocabulary, chunks_to_fit
from anyorder.tokenizers.dct import MAX_MARGIN, MAX_SCALE, coefficient_range, idct, quantize


class DctTokenizer(ActionTokenizer):
    """FAST without its byte pairs: every token is one rounded coefficient and has its own place.

    ``token = round(scale * DCT(x)) - low``; all dimensions of frequency 0, then those of frequency 1, and so on up to
    the last one kept. What a place means never depends on the other tokens, so codes of this kind suit families that
    reveal tokens in any order; the levels are the frequencies, for next-frequency prediction. Longer than FAST's codes.

    >>> chunks = torch.linspace(-1, 1, 8).repeat(4, 1).unsqueeze(-1)
    >>> tokenizer = DctConfig(frequencies=4).fit(chunks)
    >>> tokenizer.length, tokenizer.levels
    (4, (1, 1, 1, 1))
    >>> bool((tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().max() < 0.1)
    True
    """

    choice = "dct"

    def __init__(self, horizon: int, action_size: int, scale: float, low: int, high: int, frequencies: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.scale = scale
        self.low = low
        self.high = high
        self.frequencies = frequencies
        self.vocab_size = high - low + 1
        self.digits = (self.vocab_size,)
        self.length = frequencies * action_size
        self.levels = (action_size,) * frequencies
        self.max_rmse = 0.5 / scale

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        """Turn chunks into tokens, as the base class says; frequencies that are not kept are lost."""
        coefficients = quantize(self.check_chunks(actions), self.scale)[:, : self.length]
        return coefficients.clamp(self.low, self.high) - self.low

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        kept = self.check_tokens(tokens) + self.low
        coefficients = kept.new_zeros(len(tokens), self.horizon * self.action_size)
        coefficients[:, : self.length] = kept
        chunks = idct(coefficients.view(-1, self.horizon, self.action_size)) / self.scale
        return chunks.clamp(-1, 1).float()

    @override
    @torch.no_grad()
    def lossless(self, actions: Tensor) -> Tensor:
        """Say which chunks lose nothing but rounding: no coefficient clamped, none cut."""
        coefficients = quantize(self.check_chunks(actions), self.scale)
        inside = ((coefficients >= self.low) & (coefficients <= self.high)).all(1)
        return inside & (coefficients[:, self.length :] == 0).all(1)

    @override
    def token_features(self) -> Tensor:
        """Return the coefficient of each token, (vocab_size, 1)."""
        return torch.arange(self.low, self.high + 1, dtype=torch.float32).unsqueeze(-1)

    @override
    def spec(self) -> dict[str, Any]:
        names = ("horizon", "action_size", "scale", "low", "high", "frequencies")
        return {name: getattr(self, name) for name in names}


@dataclass
class DctConfig(TokenizerConfig, choice="dct"):
    """Settings of ``DctTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = DctTokenizer
    dial = "scale"
    dial_values = (2.75, 5.5, 11.0, 22.0, 44.0, 88.0)

    scale: float = setting(
        22.0, "Coefficients are rounded after multiplication with it; larger is finer.", above=0, most=MAX_SCALE
    )
    frequencies: int = setting(
        0, "How many are kept, lowest first; 0 keeps up to the last one that matters in the data.", least=0
    )
    alphabet_margin: float = setting(
        0.25, "Part of the range of coefficients in the data that is added at both ends.", least=0, most=MAX_MARGIN
    )

    @override
    def fit(self, chunks: Tensor) -> DctTokenizer:
        """Learn the range of coefficients, and how many frequencies matter, from chunks."""
        chunks = chunks_to_fit(chunks)
        count, horizon, action_size = chunks.shape
        if self.frequencies > horizon:
            raise ConfigError("frequencies", self.frequencies, f"at most the horizon, {horizon}")
        coefficients = quantize(chunks, self.scale)
        extremes = int(coefficients.min()), int(coefficients.max())
        low, high = coefficient_range(*extremes, self.scale, horizon, self.alphabet_margin)
        check_vocabulary("scale", self.scale, high - low + 1)
        kept = self.frequencies
        if not kept:
            present = (coefficients.view(count, horizon, action_size) != 0).any(2).any(0)
            kept = max(1, int(present.nonzero().max()) + 1) if bool(present.any()) else 1
        # Two tokens at least: a code that is always the same still has to be one of something.
        return DctTokenizer(horizon, action_size, self.scale, low, max(high, low + 1), kept)
