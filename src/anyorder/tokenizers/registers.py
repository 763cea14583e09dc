"""Ordered registers: a learnt code of which every prefix decodes, coarse to fine.

Liu et al., OAT: Ordered Action Tokenization, 2026, arXiv 2602.04215; rounded as in Mentzer et al., Finite Scalar
Quantization: VQ-VAE Made Simple, 2023, arXiv 2309.15505.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyorder.errors import ConfigError, DecodeError
from anyorder.factorization.precision import widen
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, check_vocabulary, chunks_to_fit
from anyorder.tokenizers.kmeans import FloatBuffers

LEARNING_RATE = 2e-3
"""The autoencoder's learning rate begins here and falls along a cosine."""
BATCH = 256
"""The autoencoder learns from this many chunks a step."""


class RegisterTokenizer(ActionTokenizer):
    """An autoencoder with finite scalar quantization and nested dropout (OAT, arXiv 2602.04215; FSQ 2309.15505).

    An MLP maps the chunk to ``registers`` vectors of a few numbers, each number is rounded to one of a few values (a
    register's token is their mixed-radix number), and an MLP maps the registers back. In training a random prefix is
    kept and the rest set to zero, so that early registers learn what matters most and every prefix decodes:
    ``decode_prefix``. Rounding passes gradients straight through. Left out: OAT's attention between registers.

    >>> chunks = torch.linspace(-1, 1, 64).view(64, 1, 1).expand(-1, 4, 2)
    >>> tokenizer = RegistersConfig(registers=2, steps=200, width=32).fit(chunks)
    >>> tokenizer.length, tokenizer.decode_prefix(tokenizer.encode(chunks), 1).shape
    (2, torch.Size([64, 4, 2]))
    """

    choice = "registers"

    def __init__(self, horizon: int, action_size: int, registers: int, fsq_levels: list[int], width: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.fsq_levels = list(fsq_levels)
        self.width = width
        self.length = registers
        self.levels = (1,) * registers
        self.vocab_size = math.prod(fsq_levels)
        self.digits = tuple(fsq_levels)
        self.tables = FloatBuffers()
        for name, shape in self.shapes().items():
            self.tables.put(name, torch.zeros(shape))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every weight."""
        values, code = self.horizon * self.action_size, self.length * len(self.fsq_levels)
        sizes = {"encoder": (values, self.width, self.width, code), "decoder": (code, self.width, self.width, values)}
        shapes: dict[str, tuple[int, ...]] = {}
        for part, widths in sizes.items():
            for i in range(3):
                shapes[f"{part}_{i}_weight"] = (widths[i + 1], widths[i])
                shapes[f"{part}_{i}_bias"] = (widths[i + 1],)
        return shapes

    def weights(self) -> dict[str, Tensor]:
        """Return the fitted weights by name."""
        return {name: self.tables.get(name) for name in self.shapes()}

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        digits = self.digits_of(self.check_chunks(actions), self.weights())
        radix = torch.tensor([1, *self.fsq_levels[:-1]], device=digits.device).cumprod(0)
        return (digits.long() * radix).sum(-1)

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        return self.decode_prefix(tokens, self.length)

    @torch.no_grad()
    def decode_prefix(self, tokens: Tensor, registers: int) -> Tensor:
        """Decode the first ``registers`` tokens of codes (batch, length) alone."""
        tokens = self.check_tokens(tokens)
        if not 0 <= registers <= self.length:
            raise DecodeError("registers", registers, f"0 to {self.length}")
        radix = torch.tensor([1, *self.fsq_levels[:-1]], device=tokens.device).cumprod(0)
        base = torch.tensor(self.fsq_levels, device=tokens.device)
        code = self.centered((tokens.unsqueeze(-1) // radix % base).float())
        kept = torch.arange(self.length, device=tokens.device) < registers
        return self.chunk(code * kept.view(1, -1, 1), self.weights())

    def digits_of(self, chunks: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Return each register's digits (batch, registers, digits), 0 to level - 1, rounded straight through."""
        raw = mlp(chunks.flatten(1).float(), weights, "encoder").view(len(chunks), self.length, len(self.fsq_levels))
        most = torch.tensor(self.fsq_levels, device=raw.device) - 1
        value = torch.sigmoid(raw) * most
        # Adding an exact zero that carries the gradient keeps the digits whole.
        return value.detach().round() + (value - value.detach())

    def centered(self, digits: Tensor) -> Tensor:
        """Map digits 0 to level - 1 to [-1, 1]."""
        most = torch.tensor(self.fsq_levels, device=digits.device) - 1
        return digits / most * 2 - 1

    def chunk(self, code: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Map codes (batch, registers, digits) in [-1, 1] to chunks."""
        out = mlp(code.flatten(1), weights, "decoder").view(len(code), self.horizon, self.action_size)
        return out.clamp(-1, 1)

    def learn(self, chunks: Tensor, steps: int, seed: int) -> None:
        """Train encoder and decoder on chunks with nested dropout, under a squared error."""
        generator = torch.Generator().manual_seed(seed)
        weights = {}
        for name, shape in self.shapes().items():
            spread = shape[-1] ** -0.5 if len(shape) == 2 else 0.0
            weights[name] = nn.Parameter(torch.randn(shape, generator=generator) * spread)
        optimizer = torch.optim.Adam(list(weights.values()), LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, LEARNING_RATE / 50)
        with torch.enable_grad():
            for _ in range(steps):
                batch = chunks[torch.randint(len(chunks), (BATCH,), generator=generator)].float()
                kept = torch.randint(1, self.length + 1, (BATCH, 1, 1), generator=generator)
                # Half of the batch keeps everything: the full code is what policies use.
                kept[: BATCH // 2] = self.length
                shown = torch.arange(self.length).view(1, -1, 1) < kept
                code = self.centered(self.digits_of(batch, weights)) * shown
                error = F.mse_loss(mlp(code.flatten(1), weights, "decoder"), batch.flatten(1))
                optimizer.zero_grad()
                torch.autograd.backward(error)
                optimizer.step()
                schedule.step()
        for name, weight in weights.items():
            self.tables.put(name, weight)

    @override
    def spec(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "action_size": self.action_size,
            "registers": self.length,
            "fsq_levels": self.fsq_levels,
            "width": self.width,
        }


def mlp(x: Tensor, weights: Mapping[str, Tensor], part: str) -> Tensor:
    """Apply the three layers of the encoder or the decoder to (batch, in)."""
    for i in range(3):
        # In float64: single precision differs between batch sizes, and near a rounding edge so would the token.
        x = F.linear(widen(x), widen(weights[f"{part}_{i}_weight"]), widen(weights[f"{part}_{i}_bias"]))
        x = F.silu(x) if i < 2 else x
    return x.float()


@dataclass
class RegistersConfig(TokenizerConfig, choice="registers"):
    """Settings of ``RegisterTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = RegisterTokenizer
    dial = "registers"
    dial_values = (1, 2, 4, 8, 16)

    registers: int = setting(8, "Tokens per chunk. OAT has 8 for 32 time steps.", least=1)
    fsq_levels: list[int] = setting(
        [8, 5, 5, 5], "Values of each number of a register; their product is the vocabulary. OAT: 8, 5, 5, 5.", least=2
    )
    width: int = setting(128, "Hidden units of the autoencoder.", least=1)
    steps: int = setting(1500, "Training steps.", least=1)
    seed: int = setting(0, "Seed of the training.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.fsq_levels:
            raise ConfigError("fsq_levels", self.fsq_levels, "one or more integers >= 2")
        check_vocabulary("fsq_levels", self.fsq_levels, math.prod(self.fsq_levels))

    @override
    def fit(self, chunks: Tensor) -> RegisterTokenizer:
        """Train the autoencoder on chunks (count, horizon, action size)."""
        chunks = chunks_to_fit(chunks)
        _, horizon, action_size = chunks.shape
        tokenizer = RegisterTokenizer(horizon, action_size, self.registers, self.fsq_levels, self.width)
        tokenizer.learn(chunks.cpu(), self.steps, self.seed)
        return tokenizer.to(chunks.device)
