"""Residual vector quantization of whole chunks: each token corrects what the ones before it left over.

The codes are those of Lee et al., Behavior Generation with Latent Actions (VQ-BeT), 2024, arXiv 2403.03181.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor

from anyorder.factorization.precision import widen
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, check_vocabulary, chunks_to_fit
from anyorder.tokenizers.kmeans import FloatBuffers, kmeans, nearest_code

FIT_CHUNKS = 20_000
"""Codebooks are learnt from at most this many chunks, evenly spaced over the data."""


class ResidualVQTokenizer(ActionTokenizer):
    """A chunk as a sum of codes, coarse to fine, one codebook a stage (as the codes of VQ-BeT, arXiv 2403.03181).

    ``token_s = argmin_j |r_s - c_{s,j}|``, ``r_{s+1} = r_s - c_{s,token_s}``, and the chunk decodes to the sum of its
    codes, so every prefix decodes to a coarser chunk. Codebooks are learnt by k-means on the residuals, without a
    network around them. Token s is stage s; a token's meaning depends on its stage alone.

    >>> chunks = torch.linspace(-1, 1, 64).view(64, 1, 1).expand(-1, 4, 2)
    >>> tokenizer = ResidualVQConfig(stages=2, codes=8).fit(chunks)
    >>> bool((tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().max() < 0.05)
    True
    """

    choice = "residual_vq"

    def __init__(self, horizon: int, action_size: int, stages: int, codes: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.vocab_size = codes
        self.length = stages
        self.levels = (1,) * stages
        self.tables = FloatBuffers()
        self.tables.put("codebooks", torch.zeros(stages, codes, horizon * action_size))

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        residual = widen(self.check_chunks(actions).flatten(1))
        tokens = []
        for codebook in self.tables.get("codebooks"):
            tokens.append(nearest_code(residual, codebook))
            residual = residual - codebook[tokens[-1]]
        return torch.stack(tokens, 1)

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        tokens = self.check_tokens(tokens)
        codebooks = self.tables.get("codebooks")
        codes = codebooks[torch.arange(self.length, device=tokens.device), tokens]
        return codes.sum(1).view(-1, self.horizon, self.action_size).clamp(-1, 1)

    @override
    def spec(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "action_size": self.action_size,
            "stages": self.length,
            "codes": self.vocab_size,
        }


@dataclass
class ResidualVQConfig(TokenizerConfig, choice="residual_vq"):
    """Settings of ``ResidualVQTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = ResidualVQTokenizer
    dial = "stages"
    dial_values = (1, 2, 4, 8, 16)

    stages: int = setting(8, "Tokens per chunk.", least=1)
    codes: int = setting(128, "Size of each stage's codebook.", least=2)
    seed: int = setting(0, "Seed of the codebooks' start.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_vocabulary("codes", self.codes, self.codes)

    @override
    def fit(self, chunks: Tensor) -> ResidualVQTokenizer:
        """Learn one codebook after the other from chunks (count, horizon, action size)."""
        device, chunks = chunks.device, chunks_to_fit(chunks).cpu()
        count, horizon, action_size = chunks.shape
        residual = chunks[:: -(-count // FIT_CHUNKS)].flatten(1).double()
        tokenizer = ResidualVQTokenizer(horizon, action_size, self.stages, self.codes)
        codebooks = []
        for stage in range(self.stages):
            codebook = kmeans(residual, self.codes, self.seed + stage)
            residual = residual - codebook[nearest_code(residual, codebook)]
            codebooks.append(codebook)
        tokenizer.tables.put("codebooks", torch.stack(codebooks))
        return tokenizer.to(device)
