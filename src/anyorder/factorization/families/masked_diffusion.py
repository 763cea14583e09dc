"""Masked (absorbing) diffusion: the joint as the average over all orders of revealing the tokens."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.categorical import uniforms
from anyorder.factorization.checks import UNKNOWN, require
from anyorder.factorization.delayed_cache import DelayedCache
from anyorder.factorization.draft import Draft
from anyorder.factorization.exact_counts import ExactCounts
from anyorder.factorization.samplers import Sampler
from anyorder.factorization.schedules import SCHEDULES, Schedule
from anyorder.factorization.slots import TokenNetwork, in_place_slots
from anyorder.factorization.strata import stratified
from anyorder.factorization.unmasking import UnmaskingConfig, unmask
from anyorder.settings import setting

SMALLEST_TIME = 1e-3
"""The Bernoulli loss draws no earlier time: its variance grows with the logarithm of the time's inverse."""


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
        refresh: calls of sampling from a full pass to the next; between them revealed tokens are not computed again.

    References:
        Nie et al., 2025: "Large Language Diffusion Models", arXiv 2502.09992.
        Prabhudesai et al., 2025: "Diffusion Beats Autoregressive in Data-Constrained Settings",
            arXiv 2507.15857.
        Ou et al., 2024: "Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of
            Clean Data", arXiv 2406.03736.
        Sahoo et al., 2024: "Simple and Effective Masked Diffusion Language Models", arXiv 2406.07524.
        Shi et al., 2024: "Simplified and Generalized Masked Diffusion for Discrete Data", arXiv 2406.04329.
        Ma, Yu, Fang and Wang, 2025: "dKV-Cache: The Cache for Diffusion Language Models", arXiv 2505.15781.

    >>> from anyorder.factorization import Request
    >>> from anyorder.factorization.samplers import FirstHitting
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = MaskedDiffusion(FirstHitting())
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[0, 1, 1],
            [0, 1, 0]])
    """

    def __init__(self, sampler: Sampler, schedule: Schedule | None = None, refresh: int = 1) -> None:
        self.sampler = sampler
        self.schedule = schedule
        self.refresh = refresh
        self.simulates = sampler.simulates and refresh == 1
        self.loss_scores = schedule is None

    @override
    def calls(self, length: int) -> int:
        return self.sampler.calls(length)

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        if self.schedule is None:
            return super().loss(network, code, context, generator=generator)
        t = SMALLEST_TIME + (1 - SMALLEST_TIME) * stratified(len(code), generator)
        chance = self.schedule.masked(t)
        weight = (1 - SMALLEST_TIME) * self.schedule.slope(t) / chance
        masked = (uniforms(tuple(code.shape), generator) < chance.unsqueeze(1)).to(code.device)
        scores = self.masked_scores(network, code, network.prefill(context), masked)
        return -scores.sum(-1) * weight.to(scores)

    @override
    def masked_scores(self, network: TokenNetwork, code: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``log p(x_i | x_notM, c)`` where masked and 0 elsewhere, (batch, length), nats.

        Args:
            network: the network to ask.
            code: codes (batch, length).
            cache: the prefilled context.
            masked: M, boolean (batch, length).
        """
        answer, _ = network(in_place_slots(network, code.masked_fill(masked, UNKNOWN)), cache)
        return answer.log_prob(code) * masked

    def order_log_probs(self, network: TokenNetwork, code: Tensor, context: Tensor, order: Tensor) -> Tensor:
        """Return log p(x_i | tokens before i in ``order``, c) by position (batch, length), nats.

        This is the chain rule, exactly, with the same network in one given order (batch, length); it costs a call per
        token.
        """
        cache = network.prefill(context)
        rank = order.argsort(1)
        scores = torch.zeros(code.shape, device=code.device)
        for j in range(code.shape[1]):
            found = self.masked_scores(network, code, cache, rank >= j)
            scores = scores + found * (rank == j)
        return scores

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        unmask(draft, self.sampler, DelayedCache(network, context, self.refresh).ask)
        if self.sampler.revises:
            draft.log_prob = None


@dataclass
class MaskedDiffusionConfig(UnmaskingConfig, choice="masked_diffusion"):
    """Masked diffusion."""

    family = MaskedDiffusion

    loss: str = setting(
        "exact_count",
        "exact_count (least noise) or bernoulli (each token masked by chance, as MDLM and LLaDA train).",
        among=("exact_count", "bernoulli"),
    )

    refresh: int = setting(
        1,
        "Network calls of sampling from a full pass to the next. Between them tokens that are revealed are not "
        "computed again, which is an approximation; 1 has none.",
        least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        revises = self.refresh > 1 and self.sampler == "remasking"
        require(not revises, "refresh", self.refresh, "1 with sampler=remasking, which takes tokens back")

    def build(self) -> MaskedDiffusion:
        """Make the factorization."""
        schedule = SCHEDULES[self.schedule] if self.loss == "bernoulli" else None
        return MaskedDiffusion(self.build_sampler(), schedule, self.refresh)
