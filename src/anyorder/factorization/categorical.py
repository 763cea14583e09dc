"""Sampling from categorical distributions, by inverse CDF in float64.

Not by Gumbel noise: in float32 it is truncated, which silently lowers the temperature (arXiv 2409.02908).
"""

import torch
from torch import Tensor

from anyorder.factorization.checks import check_sampling, refuse_rows
from anyorder.factorization.precision import has_float64, to_float64

ANSWER = "the network's answer"
"""Messages about numbers that are not finite call the logits and values of a network so."""


def probabilities(logits: Tensor, temperature: float, nucleus: float = 1.0) -> Tensor:
    """Return softmax(logits / temperature) in float64; temperature 0 puts all mass on the largest logit.

    Args:
        logits: shape (..., categories); -inf forbids a category.
        temperature: 0, or finite and not too small (``check_sampling``).
        nucleus: keep the fewest most likely categories that have at least this mass (top-p, arXiv 1904.09751).

    Raises:
        ConfigError: temperature or nucleus cannot be used.
        NotFiniteError: logits hold NaN or +inf, or leave no category.

    >>> probabilities(torch.tensor([0.0, 1.0]), 0.0)
    tensor([0., 1.], dtype=torch.float64)
    >>> probabilities(torch.tensor([0.5, 0.3, 0.2]).log(), 1.0, nucleus=0.7)
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
    """
    probs = softened(logits, temperature, nucleus)
    check_mass(probs.sum(-1))
    return probs


def softened(logits: Tensor, temperature: float, nucleus: float) -> Tensor:
    """Return what ``probabilities`` does, but NaN in rows of which nothing can be drawn, for the caller to refuse."""
    check_sampling(temperature, nucleus)
    if temperature == 0.0:
        highest, place = logits.max(-1, keepdim=True)
        best = to_float64(highest)
        # One where the largest is finite; infinity minus itself is NaN, as is NaN.
        return torch.zeros_like(best).expand(*logits.shape).scatter(-1, place.to(best.device), 1 + (best - best))
    probs = torch.softmax(to_float64(logits) / temperature, -1)
    if nucleus < 1.0:
        ranked, order = probs.sort(dim=-1, descending=True, stable=True)
        before = ranked.cumsum(-1) - ranked
        probs = torch.zeros_like(probs).scatter(-1, order, ranked.masked_fill(before >= nucleus, 0.0))
        probs = probs / probs.sum(-1, keepdim=True)
    return probs


def draw(logits: Tensor, temperature: float, nucleus: float, noise: Tensor) -> Tensor:
    """Draw categories from logits (..., categories) by uniforms ``noise`` (...); raises as ``probabilities`` does.

    On a GPU the check waits for the logits once a draw.
    """
    return inverse_cdf(softened(logits, temperature, nucleus), noise).to(logits.device)


def forbid(logits: Tensor, allowed: Tensor) -> Tensor:
    """Return logits with -inf where not ``allowed``; NaN and +inf become NaN there, so that they are refused, too.

    >>> forbid(torch.tensor([0.0, 1.0, float("nan")]), torch.tensor([True, False, False]))
    tensor([0., -inf, nan])
    """
    return torch.where(allowed, logits, logits - torch.inf)


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Return the category where the cumulative sum first exceeds ``uniforms`` times the total.

    Args:
        probs: weights >= 0, shape (..., categories); they need not sum to one, but must not be all zero.
        uniforms: numbers in [0, 1), shape (...).

    Raises:
        NotFiniteError: the weights of a row do not sum to a finite number above 0.

    >>> inverse_cdf(torch.tensor([0.25, 0.0, 0.75]).double(), torch.tensor(0.25).double())
    tensor(2)
    """
    cumulative = probs.cumsum(-1)
    check_mass(cumulative[..., -1])
    threshold = uniforms.to(cumulative) * cumulative[..., -1]
    index = torch.searchsorted(cumulative, threshold.unsqueeze(-1), right=True)
    # Rounding can put the threshold on the total itself; the last category with mass is meant then.
    last = probs.shape[-1] - 1 - (probs.flip(-1) > 0).to(torch.uint8).argmax(-1)
    return torch.minimum(index.squeeze(-1), last)


def check_mass(total: Tensor) -> None:
    """Raise a ``NotFiniteError`` unless the weights of every row, whose sums these are (...), can be drawn from."""
    good = (total > 0) & (total < torch.inf)
    if not bool(good.all()):
        refuse_rows(~good, ANSWER)


def uniforms(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw float64 uniforms in [0, 1) from ``generator``, on its device, or on the CPU where that has no float64.

    What is made of them is moved to where it is used, so a generator may be on another device than the network.
    """
    if not has_float64(generator.device):
        # Two draws of 24 bits each.
        high, low = torch.rand((2, *shape), generator=generator, device=generator.device).cpu().double()
        drawn: Tensor = high + low * 2.0**-24
        return drawn
    return torch.rand(shape, dtype=torch.float64, generator=generator, device=generator.device)
