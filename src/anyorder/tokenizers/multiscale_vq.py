"""Multi-scale residual quantization over time: first the chunk's mean, then ever finer corrections.

Tian et al., Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction (VAR), 2024, arXiv
2404.02905. Gong et al., CARP: Visuomotor Policy Learning via Coarse-to-Fine Autoregressive Prediction, 2024, arXiv
2412.06782, does so for actions.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.precision import widen, widest
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, check_vocabulary, chunks_to_fit
from anyorder.tokenizers.kmeans import FloatBuffers, kmeans, nearest_code
from anyorder.tokenizers.residual_vq import FIT_CHUNKS


class MultiscaleVQTokenizer(ActionTokenizer):
    """Codes at growing lengths in time, each quantizing what the coarser ones left (VAR 2404.02905; CARP 2412.06782).

    At scale k the residual is averaged down to ``scales[k]`` steps, each step's vector is replaced by the nearest code
    of that scale, and the codes, linearly interpolated back to the horizon, are subtracted. The chunk decodes to the
    sum of the interpolated codes. The action's dimensions are cut into ``groups`` of neighbours with codebooks of their
    own; CARP gives every dimension its own. Codebooks are learnt by k-means, without a network around them.

    Tokens are in order of scale, then time, then group; the levels are the scales, for next-scale prediction.

    >>> chunks = torch.linspace(-1, 1, 64).view(64, 1, 1).expand(-1, 4, 2)
    >>> tokenizer = MultiscaleVQConfig(scales=[1, 2], codes=16, groups=1).fit(chunks)
    >>> tokenizer.levels, bool((tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().max() < 0.05)
    ((1, 2), True)
    """

    choice = "multiscale_vq"

    def __init__(self, horizon: int, action_size: int, scales: list[int], codes: int, groups: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.scales = list(scales)
        self.groups = groups
        self.vocab_size = codes
        self.levels = tuple(scale * groups for scale in scales)
        self.length = sum(self.levels)
        self.widths = [action_size // groups + (g < action_size % groups) for g in range(groups)]
        self.tables = FloatBuffers()
        # Groups may differ in width by one; the narrow ones leave the last column empty.
        self.tables.put("codebooks", torch.zeros(len(scales), groups, codes, max(self.widths)))

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        return self.quantize(widen(self.check_chunks(actions)))[0]

    def quantize(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens of chunks (batch, horizon, action size) and what they leave over."""
        tokens = []
        for k in range(len(self.scales)):
            found = self.nearest(shrink(residual, self.scales[k]), k)
            residual = residual - stretch(self.codes_of(found, k), self.horizon)
            tokens.append(found.flatten(1))
        return torch.cat(tokens, 1), residual

    def nearest(self, steps: Tensor, k: int) -> Tensor:
        """Return the nearest codes of scale k for steps (batch, time, action size): (batch, time, groups)."""
        found = []
        for g, part in enumerate(torch.split(steps, self.widths, 2)):
            codebook = self.tables.get("codebooks")[k, g, :, : self.widths[g]]
            found.append(nearest_code(part.flatten(0, 1), codebook).view(part.shape[:2]))
        return torch.stack(found, 2)

    def codes_of(self, tokens: Tensor, k: int) -> Tensor:
        """Return the codes of scale k behind tokens (batch, time, groups): (batch, time, action size), float64."""
        codebooks = self.tables.get("codebooks")
        parts = [codebooks[k, g, tokens[:, :, g], :width] for g, width in enumerate(self.widths)]
        return widen(torch.cat(parts, 2))

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        levels = torch.split(self.check_tokens(tokens), [scale * self.groups for scale in self.scales], 1)
        device = tokens.device
        shape = (len(tokens), self.horizon, self.action_size)
        total = torch.zeros(shape, dtype=widest(device), device=device)
        for k, level in enumerate(levels):
            found = level.view(len(tokens), self.scales[k], self.groups)
            total = total + stretch(self.codes_of(found, k), self.horizon)
        return total.clamp(-1, 1).float()

    @override
    def spec(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "action_size": self.action_size,
            "scales": self.scales,
            "codes": self.vocab_size,
            "groups": self.groups,
        }


def shrink(chunks: Tensor, steps: int) -> Tensor:
    """Average chunks (batch, time, action size) over time down to ``steps`` steps."""
    return torch.nn.functional.adaptive_avg_pool1d(chunks.transpose(1, 2), steps).transpose(1, 2)


def stretch(chunks: Tensor, steps: int) -> Tensor:
    """Interpolate chunks (batch, time, action size) linearly over time up to ``steps`` steps."""
    if chunks.shape[0] == 0:
        return chunks.new_zeros(0, steps, chunks.shape[2])
    wide = chunks.transpose(1, 2)
    return torch.nn.functional.interpolate(wide, steps, mode="linear", align_corners=False).transpose(1, 2)


@dataclass
class MultiscaleVQConfig(TokenizerConfig, choice="multiscale_vq"):
    """Settings of ``MultiscaleVQTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = MultiscaleVQTokenizer
    dial = "codes"
    dial_values = (8, 16, 32, 64, 128, 256)

    scales: list[int] = setting(
        [1, 2, 4, 8],
        "Steps in time of each scale, increasing; those longer than the horizon are cut to it. CARP has 1, 2, 3, 4 "
        "on a latent.",
        least=1,
    )
    codes: int = setting(128, "Size of each codebook.", least=2)
    groups: int = setting(
        2, "Groups of neighboring action dimensions, each with its own codebooks; at most one per dimension.", least=1
    )
    seed: int = setting(0, "Seed of the codebooks' start.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scales or sorted(set(self.scales)) != self.scales:
            raise ConfigError("scales", self.scales, "increasing integers >= 1")
        check_vocabulary("codes", self.codes, self.codes)

    @override
    def fit(self, chunks: Tensor) -> MultiscaleVQTokenizer:
        """Learn the codebooks of one scale after the other from chunks (count, horizon, action size)."""
        device, chunks = chunks.device, chunks_to_fit(chunks).cpu()
        count, horizon, action_size = chunks.shape
        scales = sorted({min(scale, horizon) for scale in self.scales})
        groups = min(self.groups, action_size)
        tokenizer = MultiscaleVQTokenizer(horizon, action_size, scales, self.codes, groups)
        residual = chunks[:: -(-count // FIT_CHUNKS)].double()
        codebooks = tokenizer.tables.get("codebooks").clone()
        for k, scale in enumerate(scales):
            steps = shrink(residual, scale)
            for g, part in enumerate(torch.split(steps, tokenizer.widths, 2)):
                points = part.flatten(0, 1)
                points = points[:: -(-len(points) // FIT_CHUNKS)]
                codebooks[k, g, :, : tokenizer.widths[g]] = kmeans(points, self.codes, self.seed + k)
            tokenizer.tables.put("codebooks", codebooks)
            residual = residual - stretch(tokenizer.codes_of(tokenizer.nearest(steps, k), k), horizon)
        return tokenizer.to(device)
