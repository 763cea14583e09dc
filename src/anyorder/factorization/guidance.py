"""Classifier-free guidance on the observation, for every family: a network that asks twice."""

from typing import Any

import torch
from torch import Tensor

from anyorder.factorization.base import Slots
from anyorder.factorization.checks import check_sampling


class Guided:
    """A network whose answers are pushed away from what it would say without the observation (arXiv 2207.12598).

    Formula: ``l = l_null + scale * (l_observed - l_null)``, on logits for tokens and on predictions for values;
    ``l_null`` answers a context of zeros, which the network has to have met in training. Scale 1 is the network itself,
    0 ignores the observation, more than 1 sharpens. Each call costs two. Such samples follow no likelihood of the
    model.

    Args:
        network: the network to ask.
        scale: strength.
        context_tokens: how many tokens of the context are the observation; those after them, a noise level for
            instance, are kept.

    Raises:
        ConfigError: the scale is below 0 or not finite.
    """

    def __init__(self, network: Any, scale: float, context_tokens: int) -> None:
        check_sampling(guidance=scale)
        self.network = network
        self.scale = scale
        self.context_tokens = context_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def prefill(self, context: Tensor) -> Any:
        """Encode the context and, as further rows, the context without the observation."""
        null = context.clone()
        null[:, : self.context_tokens] = 0
        return self.network.prefill(torch.cat([context, null]))

    def __call__(self, first: Any, *rest: Any, **options: Any) -> Any:
        """Ask for both and combine; slots as ``TokenNetwork`` takes them, or values as ``ValueNetwork`` does."""
        if not isinstance(first, Slots):
            times, cache = rest
            twice = None if times is None else torch.cat([times, times])
            return self.combine(self.network(torch.cat([first, first]), twice, cache))
        cache, visible = rest[0], rest[1] if len(rest) > 1 else options.pop("visible", None)
        if visible is not None and visible.dim() == 3:
            visible = torch.cat([visible, visible])
        doubled = Slots(*(torch.cat([column, column]) for column in first))
        logits, cache = self.network(doubled, cache, visible, **options)
        return self.combine(logits), cache

    def from_vectors(self, vectors: Tensor, cache: Any) -> Tensor:
        """Ask an ``EmbeddingNetwork`` for both and combine."""
        logits = self.network.from_vectors(torch.cat([vectors, vectors]), cache)
        return self.combine(logits)

    def combine(self, both: Tensor) -> Tensor:
        """Return the guided answer of rows that were asked with, then without, the observation."""
        observed, null = both.chunk(2)
        return null + self.scale * (observed - null)
