"""B-spline control points: a chunk as a smooth curve, its control points in uniform bins.

Zhou et al., BEAST: Efficient Tokenization of B-Splines Encoded Action Sequences for Imitation Learning, 2025, arXiv
2506.06072.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, override

import numpy as np
import torch
from torch import Tensor

from anyorder.factorization.precision import widen, widest
from anyorder.settings import setting
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig, check_vocabulary, chunks_to_fit
from anyorder.tokenizers.kmeans import FloatBuffers
from anyorder.weights import Rule


class BSplineTokenizer(ActionTokenizer):
    """Least-squares control points of a clamped B-spline, one token each (BEAST, arXiv 2506.06072).

    With B (horizon x points) the spline's basis at the time steps, the control points are ``pinv(B) x`` per dimension;
    a token is the bin of a control point between the extremes of its dimension in the data, and decodes to the bin's
    middle. Smooth and of fixed length, and neighbouring chunks can be joined, but switches as of a gripper are rounded
    off unless there are as many points as time steps.

    Tokens are in order of time, dimensions innermost. Left out: continuous codes.

    >>> chunks = torch.linspace(-1, 1, 8).repeat(4, 1).unsqueeze(-1)
    >>> tokenizer = BSplineConfig(points=4).fit(chunks)
    >>> bool((tokenizer.decode(tokenizer.encode(chunks)) - chunks).abs().max() < 0.02)
    True
    """

    choice = "bspline"

    def __init__(self, horizon: int, action_size: int, points: int, degree: int, bins: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.points = points
        self.degree = degree
        self.vocab_size = bins
        self.digits = (bins,)
        self.length = points * action_size
        self.tables = FloatBuffers()
        self.tables.put("low", torch.full((action_size,), -1.0))
        self.tables.put("high", torch.full((action_size,), 1.0))

    def rules(self) -> Iterator[Rule]:
        """Say that a range has a width."""
        low, high = self.tables.get("low"), self.tables.get("high")
        yield Rule("tables.low", low, low < high, "numbers below tables.high")

    @cached_property
    def basis(self) -> Tensor:
        """The spline's basis at the time steps, (horizon, points), float64."""
        return torch.from_numpy(spline_basis(self.horizon, self.points, self.degree))

    @cached_property
    def solver(self) -> Tensor:
        """The pseudo-inverse of ``basis``, (points, horizon), float64."""
        inverse: Tensor = torch.linalg.pinv(self.basis)
        return inverse

    def control(self, chunks: Tensor) -> Tensor:
        """Return the control points (batch, points, action size) of chunks, float64."""
        points: Tensor = self.solver.to(chunks.device, widest(chunks.device)) @ widen(chunks)
        return points

    @override
    @torch.no_grad()
    def encode(self, actions: Tensor) -> Tensor:
        low, high = widen(self.tables.get("low")), widen(self.tables.get("high"))
        unit = (self.control(self.check_chunks(actions)) - low) / (high - low)
        return (unit * self.vocab_size).long().clamp(0, self.vocab_size - 1).flatten(1)

    @override
    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        low, high = widen(self.tables.get("low")), widen(self.tables.get("high"))
        unit = (widen(self.check_tokens(tokens)) + 0.5) / self.vocab_size
        control = low + unit.view(-1, self.points, self.action_size) * (high - low)
        return (self.basis.to(control.device, control.dtype) @ control).clamp(-1, 1).float()

    @override
    @torch.no_grad()
    def lossless(self, actions: Tensor) -> Tensor:
        """Say in which chunks no control point was clamped."""
        low, high = widen(self.tables.get("low")), widen(self.tables.get("high"))
        control = self.control(self.check_chunks(actions))
        return ((control >= low) & (control <= high)).flatten(1).all(1)

    @override
    def token_features(self) -> Tensor:
        """Return the number of each bin, (vocab_size, 1)."""
        return torch.arange(self.vocab_size, dtype=torch.float32).unsqueeze(-1)

    @override
    def spec(self) -> dict[str, Any]:
        return {
            "horizon": self.horizon,
            "action_size": self.action_size,
            "points": self.points,
            "degree": self.degree,
            "bins": self.vocab_size,
        }


def spline_basis(horizon: int, points: int, degree: int) -> np.ndarray[Any, Any]:
    """Return the clamped B-spline basis of ``points`` control points at ``horizon`` even times, (horizon, points).

    >>> spline_basis(3, 2, 1)
    array([[1. , 0. ],
           [0.5, 0.5],
           [0. , 1. ]])
    """
    from scipy.interpolate import BSpline  # a second to import, and everything imports this module

    degree = min(degree, points - 1)
    inner = np.linspace(0, 1, points - degree + 1)
    knots = np.concatenate([np.zeros(degree), inner, np.ones(degree)])
    times = np.linspace(0, 1, horizon) if horizon > 1 else np.zeros(1)
    matrix: np.ndarray[Any, Any] = BSpline.design_matrix(times, knots, degree).toarray()
    return matrix


@dataclass
class BSplineConfig(TokenizerConfig, choice="bspline"):
    """Settings of ``BSplineTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = BSplineTokenizer
    dial = "points"
    dial_values = (2, 3, 4, 5, 6, 8, 12, 16)

    points: int = setting(
        5, "Control points per dimension, at most the horizon; fewer are smoother and shorter.", least=1
    )
    degree: int = setting(3, "Degree of the spline; 3 is cubic.", least=0)
    bins: int = setting(256, "Bins per control point.", least=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_vocabulary("bins", self.bins, self.bins)

    @override
    def fit(self, chunks: Tensor) -> BSplineTokenizer:
        """Learn the range of the control points from chunks (count, horizon, action size)."""
        chunks = chunks_to_fit(chunks)
        _, horizon, action_size = chunks.shape
        points = min(self.points, horizon)
        tokenizer = BSplineTokenizer(horizon, action_size, points, self.degree, self.bins)
        control = tokenizer.control(chunks).flatten(0, 1)
        low, high = control.amin(0), control.amax(0)
        # A dimension that never moves still needs a range to fall into.
        still = high - low < 1e-6
        tokenizer.tables.put("low", torch.where(still, low - 0.01, low))
        tokenizer.tables.put("high", torch.where(still, high + 0.01, high))
        return tokenizer.to(chunks.device)
