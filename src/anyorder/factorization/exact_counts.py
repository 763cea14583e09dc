"""Bounds by exact counts: how many tokens are masked is drawn first, then which."""

from abc import abstractmethod
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import TokenFactorization
from anyorder.factorization.slots import TokenNetwork
from anyorder.factorization.strata import random_masks, stratified_counts


class ExactCounts(TokenFactorization):
    """Bounds of the form ``E_k E_M (L / k) sum_{i in M} score_i``, k uniform on 1..L, M a uniform k-subset.

    k is stratified over a batch, or over the draws of a sequence.
    """

    exact = False

    @abstractmethod
    def masked_scores(self, network: TokenNetwork, code: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``score_i`` where ``masked`` (batch, length) and 0 elsewhere, (batch, length), nats."""

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        counts = stratified_counts(len(code), code.shape[1], generator)
        masked = random_masks(counts, code.shape[1], generator).to(code.device)
        return self.masked_error(network, code, network.prefill(context), masked)

    def masked_error(self, network: TokenNetwork, code: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``-(L / k) sum_{i in M} score_i``, k >= 1 masked in each row, (batch,), nats."""
        scores = self.masked_scores(network, code, cache, masked)
        error: Tensor = -scores.sum(-1) * code.shape[1] / masked.sum(-1)
        return error

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        batch, length = code.shape
        cache = network.prefill(context)
        counts = torch.stack([stratified_counts(samples, length, generator) for _ in range(batch)], 1)
        draws = []
        for count in counts:
            masked = random_masks(count, length, generator).to(code.device)
            scores = self.masked_scores(network, code, cache, masked)
            draws.append(scores * (length / count.double()).unsqueeze(1).to(scores))
        return torch.stack(draws)
