"""The one transformer every factorization shares: pre-norm, RMSNorm, SwiGLU, no biases, an explicit cache."""

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from anyorder.errors import ConfigError
from anyorder.settings import Settings, setting

MAX_SIZE = 1_000_000
"""The largest width, depth or number of heads that a setting may have."""


@dataclass(frozen=True)
class Cache:
    """Keys and values of what has been read so far, one pair a layer, each (batch, heads, read, head width).

    It is never changed in place: reading more returns a new one, so search may branch from any.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def read(self) -> int:
        """How many tokens have been read."""
        return self.keys[0].shape[2] if self.keys else 0

    def select(self, rows: Tensor) -> "Cache":
        """Return the cache of some batch rows, in that order, repeats allowed: rows (n,), int64."""
        return Cache(tuple(k[rows] for k in self.keys), tuple(v[rows] for v in self.values))

    def repeat(self, times: int) -> "Cache":
        """Return the cache with every batch row ``times`` times, one beside the other."""
        keys, values = ([part.repeat_interleave(times, 0) for part in parts] for parts in (self.keys, self.values))
        return Cache(tuple(keys), tuple(values))


@dataclass
class TransformerConfig(Settings):
    """Size of the trunk."""

    width: int = setting(64, "Size of the residual stream, a multiple of heads.", least=1, most=MAX_SIZE)
    depth: int = setting(2, "Number of blocks.", least=1, most=MAX_SIZE)
    heads: int = setting(4, "Attention heads.", least=1, most=MAX_SIZE)
    dropout: float = setting(
        0.0, "Chance to drop a unit of each block's output, and an embedding, in training.", least=0, below=1
    )
    attention_dropout: float = setting(0.0, "Chance to drop an attention weight, in training.", least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError("width", self.width, f"a multiple of heads = {self.heads}")

    def build(self) -> "Transformer":
        """Make the trunk."""
        return Transformer(self)


class Attention(nn.Module):
    """Multi-head attention of new tokens over the cache and, where visible, over each other."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (batch, new, width) to the same shape; also return all keys and values."""
        q, k, v = rearrange(self.qkv(x), "b s (three h d) -> three b h s d", three=3, h=self.heads)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0)
        return self.out(rearrange(y, "b h s d -> b s (h d)")), k, v


class SwiGLU(nn.Module):
    """Gated MLP, ``down(silu(gate x) * up x)``, with 8/3 of the width inside, rounded to a multiple of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = 8 * max(1, round(width / 3))
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        gate, up = self.gate_up(x).chunk(2, -1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual path."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width)
        self.attention = Attention(config.width, config.heads, config.attention_dropout)
        self.mlp_norm = nn.RMSNorm(config.width)
        self.mlp = SwiGLU(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (batch, new, width) to the same shape; also return all keys and values."""
        attended, keys, values = self.attention(self.attention_norm(x), past, mask)
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.mlp_norm(x))), keys, values


class Transformer(nn.Module):
    """The trunk: embeddings in, features out; it knows neither tokens nor orders.

    Context tokens see each other and never the slots, so ``prefill`` encodes them once per observation.

    >>> trunk = TransformerConfig(width=16, depth=2, heads=2).build()
    >>> cache = trunk.prefill(torch.zeros(1, 3, 16))
    >>> features, longer = trunk(torch.zeros(1, 5, 16), cache)
    >>> features.shape, cache.read, longer.read
    (torch.Size([1, 5, 16]), 3, 8)
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width)
        initialize(self, config.depth)

    def prefill(self, context: Tensor) -> Cache:
        """Encode context (batch, context tokens, width) into a fresh cache."""
        _, cache = self.forward(context, Cache((), ()))
        return cache

    def forward(
        self, x: Tensor, cache: Cache, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Tensor, Cache]:
        """Read new embeddings.

        Args:
            x: (batch, new, width).
            cache: what the new tokens all see.
            visible: which new tokens see which, boolean (new, new) or (batch, new, new); None means all.
            keep: how many of the new tokens, the first ones, the returned cache holds; None means all.

        Returns:
            Features (batch, new, width) and the cache extended by the new tokens.
        """
        mask = None
        if visible is not None:
            seen = visible.new_ones(*visible.shape[:-1], cache.read)
            mask = torch.cat([seen, visible], -1)
            mask = mask.unsqueeze(1) if mask.dim() == 3 else mask
        x = self.dropout(x)
        keys, values = [], []
        end = cache.read + (x.shape[1] if keep is None else keep)
        for i, block in enumerate(self.blocks):
            past = (cache.keys[i], cache.values[i]) if cache.read else None
            x, k, v = block(x, past, mask)
            keys.append(k[:, :, :end])
            values.append(v[:, :, :end])
        return self.norm(x), Cache(tuple(keys), tuple(values))


def initialize(module: nn.Module, depth: int) -> None:
    """Draw linear weights from N(0, 1/fan_in), and shrink the residual outputs by sqrt(2 depth)."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            residual = name.endswith((".out", ".down"))
            scale = (2 * depth) ** -0.5 if residual else 1.0
            nn.init.normal_(layer.weight, std=scale * layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
