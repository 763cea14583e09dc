"""Classifier-free guidance on the observation, for every family: a network that asks twice."""

from typing import Any, override

import torch
from torch import Tensor

from anyorder.factorization.checks import check_sampling
from anyorder.factorization.conditionals import Categorical
from anyorder.factorization.slots import AskingNetwork, Slots


class Guided(AskingNetwork):
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
        super().__init__(network)
        self.scale = scale
        self.context_tokens = context_tokens

    def prefill(self, context: Tensor) -> Any:
        """Encode the context and, as further rows, the context without the observation."""
        null = context.clone()
        null[:, : self.context_tokens] = 0
        return self.network.prefill(torch.cat([context, null]))

    @override
    def __call__(self, asked: Any, cache: Any, *rest: Any, **options: Any) -> Any:
        """Ask for both and combine; slots as ``TokenNetwork`` takes them, or values as ``ValueNetwork`` does."""
        twice = [doubled(given) for given in rest]
        options = {name: doubled(given) for name, given in options.items()}
        if not isinstance(asked, Slots):
            return self.combine(self.network(doubled(asked), cache, *twice, **options))
        both = Slots(*(doubled(column) for column in asked))
        answer, cache = self.network(both, cache, *twice, **options)
        return Categorical(self.combine(answer.logits), answer.sizes), cache

    def from_vectors(self, vectors: Tensor, cache: Any) -> Categorical:
        """Ask an ``EmbeddingNetwork`` for both and combine."""
        answer = self.network.from_vectors(doubled(vectors), cache)
        return Categorical(self.combine(answer.logits), answer.sizes)

    def combine(self, both: Tensor) -> Tensor:
        """Return the guided answer of rows that were asked with, then without, the observation."""
        observed, null = both.chunk(2)
        return null + self.scale * (observed - null)


def doubled(given: Any) -> Any:
    """Return a tensor with its rows twice, and what has no rows, as who sees whom in all of them, as it is."""
    shared = not isinstance(given, Tensor) or (given.dim() == 2 and given.dtype == torch.bool)
    return given if shared else torch.cat([given, given])
