"""Masked (absorbing) diffusion: the joint as the average over all orders of revealing the tokens."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import Sample, TokenFactorization, TokenNetwork, in_place_slots
from anyorder.factorization.categorical import token_scores, uniforms
from anyorder.factorization.checks import UNKNOWN, check_known, require
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.samplers import Sampler
from anyorder.factorization.schedules import SCHEDULES, Schedule
from anyorder.factorization.unmasking import UnmaskingConfig, unmask

SMALLEST_TIME = 1e-3
"""Least time of the Bernoulli loss, whose variance grows with the logarithm of its inverse."""


class ExactCounts(TokenFactorization):
    """Bounds of the form ``E_k E_M (L / k) sum_{i in M} score_i``, k uniform on 1..L, M a uniform k-subset.

    k is stratified over a batch, or over the draws of a sequence.
    """

    exact = False

    @abstractmethod
    def masked_scores(self, network: TokenNetwork, tokens: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``score_i`` where ``masked`` (batch, length) and 0 elsewhere, (batch, length), nats."""

    def loss(
        self, network: TokenNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return one draw of the bound's negative per sequence, nats."""
        counts = stratified_counts(len(chunk), chunk.shape[1], generator)
        masked = random_masks(counts, chunk.shape[1], generator).to(chunk.device)
        return self.masked_error(network, chunk, network.prefill(context), masked)

    def masked_error(self, network: TokenNetwork, tokens: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``-(L / k) sum_{i in M} score_i``, k >= 1 masked in each row, (batch,), nats."""
        scores = self.masked_scores(network, tokens, cache, masked)
        error: Tensor = -scores.sum(-1) * tokens.shape[1] / masked.sum(-1)
        return error

    def token_scores(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int,
    ) -> Tensor:
        """Return ``samples`` draws of each token's share of the ELBO; k is stratified over a sequence's draws."""
        batch, length = tokens.shape
        cache = network.prefill(context)
        counts = torch.stack([stratified_counts(samples, length, generator) for _ in range(batch)], 1)
        draws = []
        for count in counts:
            masked = random_masks(count, length, generator).to(tokens.device)
            scores = self.masked_scores(network, tokens, cache, masked)
            draws.append(scores * (length / count.double()).unsqueeze(1).to(scores))
        return torch.stack(draws)


class MaskedDiffusion(ExactCounts):
    """Tokens are revealed in random order, each from the ones already seen.

    Formula, the exact-count form of the ELBO (arXiv 2502.09992, 2507.15857):
    ``-log p(x | c) <= E_k E_M (L / k) sum_{i in M} -log p(x_i | x_notM, c)`` with k uniform on 1..L and M a uniform
    k-subset. It equals the mean over all L! orders of the chain-rule NLL (arXiv 2406.03736), so the bound is tight
    when the network's conditionals agree with one joint. k is stratified over the batch: each stratum of [0, 1) gives
    one row its k, which cuts the variance at no cost. No time conditioning: the number of MASKs tells.

    With a ``schedule`` training draws a time t instead, masks each token with chance m(t), and weighs by m'(t) / m(t)
    (arXiv 2406.07524, 2406.04329): the same bound with more noise, short of what happens before
    ``SMALLEST_TIME``, about a thousandth of a token's loss. Likelihoods are always scored by exact counts.

    Slot i carries x[i] or MASK, sits at i, predicts i and sees all slots. Left out: finite-time losses.

    Args:
        sampler: in which order tokens are revealed.
        schedule: of the Bernoulli loss; None trains on exact counts.
    """

    def __init__(self, sampler: Sampler, schedule: Schedule | None = None) -> None:
        self.sampler = sampler
        self.schedule = schedule
        self.simulates = sampler.simulates
        self.loss_scores = schedule is None

    def forwards(self, length: int) -> int:
        """Return the sampler's steps."""
        return self.sampler.forwards(length)

    def loss(
        self, network: TokenNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return one draw of the ELBO's negative per sequence, nats."""
        if self.schedule is None:
            return super().loss(network, chunk, context, generator=generator)
        t = SMALLEST_TIME + (1 - SMALLEST_TIME) * stratified(len(chunk), generator)
        chance = self.schedule.masked(t)
        weight = (1 - SMALLEST_TIME) * self.schedule.slope(t) / chance
        masked = (uniforms(tuple(chunk.shape), generator) < chance.unsqueeze(1)).to(chunk.device)
        scores = self.masked_scores(network, chunk, network.prefill(context), masked)
        return -scores.sum(-1) * weight.to(scores)

    def masked_scores(self, network: TokenNetwork, tokens: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``log p(x_i | x_notM, c)`` where masked and 0 elsewhere, (batch, length), nats.

        Args:
            network: the network to ask.
            tokens: codes (batch, length).
            cache: the prefilled context.
            masked: M, boolean (batch, length).
        """
        logits, _ = network(in_place_slots(network, tokens.masked_fill(masked, UNKNOWN)), cache)
        return token_scores(logits, tokens) * masked

    def order_log_probs(
        self, network: TokenNetwork, tokens: Tensor, context: Tensor, order: Tensor
    ) -> Tensor:
        """Return log p(x_i | tokens before i in ``order``, c) by position (batch, length), nats.

        This is the chain rule, exactly, with the same network in one given order (batch, length); it costs a call per
        token.
        """
        cache = network.prefill(context)
        rank = order.argsort(1)
        scores = torch.zeros(tokens.shape, device=tokens.device)
        for j in range(tokens.shape[1]):
            found = self.masked_scores(network, tokens, cache, rank >= j)
            scores = scores + found * (rank == j)
        return scores

    def sample(
        self,
        network: TokenNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Draw tokens by the configured sampler; ``known`` may freeze any positions."""
        chunk = check_known(known, context, network.length, network.vocab_size)
        legal = None if constraint is None else LegalTokens(constraint, chunk)
        cache = network.prefill(context)
        chunk, log_prob, calls = unmask(
            lambda part: network(in_place_slots(network, part), cache)[0],
            chunk,
            self.sampler,
            generator=generator,
            temperature=temperature,
            nucleus=nucleus,
            legal=legal,
        )
        drawn = None if self.sampler.revises else log_prob
        return Sample(chunk, drawn, forwards=calls, slots=calls * network.length)


def stratified(rows: int, generator: torch.Generator) -> Tensor:
    """Draw one uniform from each of ``rows`` equal strata of [0, 1), in random order, float64.

    >>> stratified(2, torch.Generator().manual_seed(0)).sort().values // 0.5
    tensor([0., 1.], dtype=torch.float64)
    """
    order = uniforms((rows,), generator).argsort()
    return (order + uniforms((rows,), generator)) / rows


def stratified_counts(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw k uniform on 1..length for each row, one per stratum of [0, 1), in random row order.

    >>> stratified_counts(3, 3, torch.Generator().manual_seed(0)).sort().values
    tensor([1, 2, 3])
    """
    return 1 + (stratified(rows, generator) * length).long().clamp_max(length - 1)


def random_masks(counts: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Mark ``counts`` (rows,) uniformly random positions of each row: boolean (rows, length).

    >>> random_masks(torch.tensor([1, 3]), 4, torch.Generator().manual_seed(0)).sum(-1)
    tensor([1, 3])
    """
    rank = torch.argsort(torch.argsort(uniforms((len(counts), length), generator), dim=-1), dim=-1)
    return rank < counts.unsqueeze(-1)


@dataclass
class MaskedDiffusionConfig(UnmaskingConfig, choice="masked_diffusion"):
    """Masked diffusion.

    Attributes:
        loss: ``exact_count`` (least noise) or ``bernoulli`` (each token masked by chance, as MDLM and LLaDA train).
    """

    loss: str = "exact_count"

    def build(self) -> MaskedDiffusion:
        """Make the factorization."""
        losses = ("exact_count", "bernoulli")
        require(self.loss in losses, "factorization.loss", self.loss, " or ".join(losses))
        sampler = self.build_sampler()
        return MaskedDiffusion(sampler, SCHEDULES[self.schedule] if self.loss == "bernoulli" else None)
