"""Sampling from categorical distributions, by inverse CDF in float64.

Not by Gumbel noise: in float32 it is truncated, which silently lowers the temperature (arXiv 2409.02908).
"""

import torch
from torch import Tensor

from anyorder.factorization.checks import require


def probabilities(logits: Tensor, temperature: float, nucleus: float = 1.0) -> Tensor:
    """Return softmax(logits / temperature) in float64; temperature 0 puts all mass on the largest logit.

    Args:
        logits: shape (..., categories).
        temperature: >= 0.
        nucleus: keep the fewest most likely categories that have at least this mass (top-p, arXiv 1904.09751).

    >>> probabilities(torch.tensor([0.0, 1.0]), 0.0)
    tensor([0., 1.], dtype=torch.float64)
    >>> probabilities(torch.tensor([0.5, 0.3, 0.2]).log(), 1.0, nucleus=0.7)
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
    """
    require(temperature >= 0, "temperature", temperature, "a number >= 0")
    require(0 < nucleus <= 1, "nucleus", nucleus, "above 0, at most 1")
    if temperature == 0.0:
        best = logits.argmax(-1, keepdim=True)
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(-1, best, 1.0)
    probs = torch.softmax(logits.double() / temperature, -1)
    if nucleus < 1.0:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked
        probs = torch.zeros_like(probs).scatter(-1, order, ranked.masked_fill(before >= nucleus, 0.0))
        probs = probs / probs.sum(-1, keepdim=True)
    return probs


def draw(logits: Tensor, temperature: float, nucleus: float, noise: Tensor) -> Tensor:
    """Draw categories from logits (..., categories) by uniforms ``noise`` (...)."""
    return inverse_cdf(probabilities(logits, temperature, nucleus), noise)


def token_scores(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log softmax(logits)[tokens]: logits (..., vocabulary), tokens (...)."""
    return torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the category where the cumulative sum first exceeds ``uniforms`` times the total.

    Args:
        probs: weights >= 0, shape (..., categories); they need not sum to one, but must not be all zero.
        uniforms: numbers in [0, 1), shape (...).

    >>> inverse_cdf(torch.tensor([0.25, 0.0, 0.75]).double(), torch.tensor(0.25).double())
    tensor(2)
    """
    cumulative = probs.cumsum(-1)
    index = torch.searchsorted(cumulative, (uniforms * cumulative[..., -1]).unsqueeze(-1), right=True)
    # Rounding can put the threshold on the total itself; the last category with mass is meant then.
    last = probs.shape[-1] - 1 - (probs.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum(index.squeeze(-1), last)


def uniforms(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw float64 uniforms in [0, 1) from ``generator``, on its device."""
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
