"""One token out of a law over ordered numbers, where none is drawn: near the mean around the mode, or the median."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.categorical import probabilities
from anyorder.factorization.conditionals import digits, per_digit

Point = Callable[[Tensor], Tensor]
"""A function from probabilities of the numbers 0..n-1, (..., n), to one number for each law, (...), whole or not."""


@dataclass(frozen=True)
class LocalMean:
    """The mean of a law within a window around its mode, so that no far mode moves it.

    Formula: ``sum_v v P(v) / sum_v P(v)`` over the v with ``|v - argmax P| <= window``.

    Attributes:
        window: how far from the mode numbers count.

    >>> law = torch.tensor([0.4, 0.3, 0.0, 0.3]).double()
    >>> LocalMean(1)(law), LocalMean(3)(law)
    (tensor(0.4286, dtype=torch.float64), tensor(1.2000, dtype=torch.float64))
    """

    window: int

    def __call__(self, law: Tensor) -> Tensor:
        """Return the mean near the mode, (...), for probabilities (..., n)."""
        numbers = torch.arange(law.shape[-1], device=law.device)
        near = (numbers - law.argmax(-1, keepdim=True)).abs() <= self.window
        weights = law * near
        mean: Tensor = (weights * numbers).sum(-1) / weights.sum(-1)
        return mean


def median(law: Tensor) -> Tensor:
    """Return the smallest number that has half of the mass at or below it; it has the least mean absolute error.

    >>> median(torch.tensor([0.4, 0.3, 0.0, 0.3]))
    tensor(1)
    """
    return (law.cumsum(-1) < law.sum(-1, keepdim=True) / 2).sum(-1)


def nearest_token(logits: Tensor, sizes: Sequence[int], point: Point) -> Tensor:
    """Return the possible token whose numbers are nearest to what ``point`` makes of each digit's law.

    Args:
        logits: of the tokens, (..., vocabulary); -inf forbids one.
        sizes: how many numbers each digit of a token has, the fastest first (``conditionals.digits``).
        point: maps the law of a digit to a number.

    Returns:
        Tokens (...), int64. Of several nearest, the first; nearness is the sum of squares over the digits.

    Raises:
        NotFiniteError: logits hold NaN or +inf, or leave no token.

    >>> logits = torch.tensor([0.4, 0.3, 0.0, 0.3]).log()
    >>> nearest_token(logits, (4,), LocalMean(3)), nearest_token(logits[[0, 2, 3]], (3,), LocalMean(3))
    (tensor(1), tensor(0))
    """
    law = probabilities(logits, 1.0)
    places = digits(torch.arange(law.shape[-1], device=law.device), sizes)
    distance = torch.zeros_like(law)
    for place, of_digit in zip(places.unbind(-1), per_digit(law, sizes, torch.sum), strict=True):
        distance = distance + (place - point(of_digit).unsqueeze(-1)).square()
    return distance.masked_fill((logits == -torch.inf).to(law.device), torch.inf).argmin(-1).to(logits.device)
