"""Masked (absorbing) diffusion: the joint as the average over all orders of revealing the tokens."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from anyorder.errors import ConfigError, bad_value
from anyorder.factorization.base import (
    UNKNOWN,
    FactorizationConfig,
    LogProb,
    Sample,
    Slots,
    TokenFactorization,
    TokenNetwork,
    require,
)
from anyorder.factorization.categorical import inverse_cdf, probabilities, uniforms
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.unmasking import Ancestral, Confidence, LeftToRight, OneByOne, Sampler


class MaskedDiffusion(TokenFactorization):
    """Tokens are revealed in random order, each from the ones already seen.

    Formula, the exact-count form of the ELBO (arXiv 2502.09992, 2507.15857):
    ``-log p(x | c) <= E_k E_M (L / k) sum_{i in M} -log p(x_i | x_notM, c)`` with k uniform on 1..L and M a uniform
    k-subset. It equals the mean over all L! orders of the chain-rule NLL (arXiv 2406.03736), so the bound is tight
    when the network's conditionals agree with one joint. k is stratified over the batch: each stratum of [0, 1) gives
    one row its k, which cuts the variance at no cost. No time conditioning: the number of MASKs tells.

    Slot i carries x[i] or MASK, sits at i, predicts i and sees all slots. Left out: noise schedules (they only change
    the sampler's step sizes) and remasking.
    """

    exact = False

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def loss(
        self, network: TokenNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return one unbiased draw of the ELBO's negative per sequence, nats."""
        counts = stratified_counts(chunk.shape[0], chunk.shape[1], generator)
        masked = random_masks(counts, chunk.shape[1], generator)
        return self.masked_error(network, chunk, network.prefill(context), masked)

    def log_prob(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 32,
    ) -> LogProb:
        """Return the ELBO from ``samples`` draws of k, stratified per sequence.

        The standard error treats the draws as independent, so it errs on the large side.
        """
        batch, length = tokens.shape
        cache = network.prefill(context)
        counts = torch.stack([stratified_counts(samples, length, generator) for _ in range(batch)], 1)
        masks = [random_masks(count, length, generator) for count in counts]
        draws = torch.stack([-self.masked_error(network, tokens, cache, masked) for masked in masks])
        error = draws.std(0) / samples**0.5 if samples > 1 else torch.full_like(draws[0], float("inf"))
        return LogProb(draws.mean(0), error)

    def masked_error(self, network: TokenNetwork, tokens: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``(L / k) sum_{i in M} -log p(x_i | x_notM, c)`` for given masks, shape (batch,), nats.

        Args:
            network: the network to ask.
            tokens: codes (batch, length).
            cache: the prefilled context.
            masked: M, boolean (batch, length), k >= 1 positions in each row.
        """
        logits, _ = network(in_place_slots(network, tokens.masked_fill(masked, UNKNOWN)), cache)
        score = torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        error: Tensor = -(score * masked).sum(-1) * tokens.shape[1] / masked.sum(-1)
        return error

    def sample(
        self,
        network: TokenNetwork,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Draw tokens by the configured sampler; ``known`` may freeze any positions."""
        batch, length = context.shape[0], network.length
        chunk = (
            torch.full((batch, length), UNKNOWN, device=context.device) if known is None else known.clone()
        )
        if chunk.shape != (batch, length):
            raise ConfigError(bad_value("known", tuple(chunk.shape), f"shape {(batch, length)}"))
        log_prob = torch.zeros(batch, device=context.device)
        legal = None if constraint is None else LegalTokens(constraint, chunk)
        cache = network.prefill(context)
        free = int((chunk < 0).sum(-1).max())
        steps = self.sampler.forwards(free) if free else 0
        for step in range(steps):
            logits, _ = network(in_place_slots(network, chunk), cache)
            noise = uniforms((batch, length), generator)
            confidence = partial(candidate_confidence, logits, temperature, noise, legal)
            reveal = self.sampler.reveal(step, steps, chunk < 0, confidence, generator)
            if legal is None:
                candidates = inverse_cdf(probabilities(logits, temperature), noise)
                tokens = torch.where(reveal, candidates, chunk)
            else:
                tokens = reveal_legal(legal, logits, temperature, noise, chunk, reveal)
            score = torch.log_softmax(logits, -1).gather(-1, tokens.clamp_min(0).unsqueeze(-1)).squeeze(-1)
            log_prob = log_prob + (score * reveal).sum(-1)
            chunk = tokens
        return Sample(chunk, log_prob, forwards=steps, slots=steps * length)


def in_place_slots(network: TokenNetwork, tokens: Tensor) -> Slots:
    """Return the slots in which every token, MASK where unknown, predicts its own position."""
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return Slots(torch.where(tokens < 0, network.vocab_size, tokens), positions, positions)


def stratified_counts(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw k uniform on 1..length for each row, one per stratum of [0, 1), in random row order.

    >>> stratified_counts(3, 3, torch.Generator().manual_seed(0)).sort().values
    tensor([1, 2, 3])
    """
    order = uniforms((rows,), generator).argsort()
    level = (order + uniforms((rows,), generator)) / rows
    return 1 + (level * length).long().clamp_max(length - 1)


def random_masks(counts: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Mark ``counts`` (rows,) uniformly random positions of each row: boolean (rows, length).

    >>> random_masks(torch.tensor([1, 3]), 4, torch.Generator().manual_seed(0)).sum(-1)
    tensor([1, 3])
    """
    rank = torch.argsort(torch.argsort(uniforms((len(counts), length), generator), dim=-1), dim=-1)
    return rank < counts.unsqueeze(-1)


def candidate_confidence(
    logits: Tensor, temperature: float, noise: Tensor, legal: LegalTokens | None
) -> Tensor:
    """Draw a candidate for every position, each legal on its own, and return its probability under the model.

    Shape (batch, length).
    """
    if legal is not None:
        allowed = torch.stack([legal.allowed(i) for i in range(logits.shape[1])], 1)
        logits = logits.masked_fill(~allowed, float("-inf"))
    candidates = inverse_cdf(probabilities(logits, temperature), noise)
    # At temperature 0 every candidate would have probability 1: confidence is the model's own.
    return probabilities(logits, 1.0).gather(-1, candidates.unsqueeze(-1)).squeeze(-1)


def reveal_legal(
    legal: LegalTokens, logits: Tensor, temperature: float, noise: Tensor, chunk: Tensor, reveal: Tensor
) -> Tensor:
    """Draw the revealed positions one after the other, so that together they can still be completed.

    Tokens revealed in one step are drawn from one network call, but each narrows what is legal for the next.
    """
    tokens = chunk.clone()
    for i in reveal.any(0).nonzero().flatten().tolist():
        weights = probabilities(logits[:, i].masked_fill(~legal.allowed(i), float("-inf")), temperature)
        tokens[:, i] = torch.where(reveal[:, i], inverse_cdf(weights, noise[:, i]), chunk[:, i])
        legal.place(i, tokens[:, i])
    return tokens


SAMPLERS = ("ancestral", "confidence", "one_by_one", "left_to_right")


@dataclass
class MaskedDiffusionConfig(FactorizationConfig, choice="masked_diffusion"):
    """Masked diffusion.

    Attributes:
        sampler: ``ancestral`` (the reverse process), ``confidence`` (most confident first), ``one_by_one`` (random
            order) or ``left_to_right``.
        steps: network calls per chunk; ``one_by_one`` makes one per token.
    """

    sampler: str = "left_to_right"
    steps: int = 32

    def build(self) -> MaskedDiffusion:
        """Make the factorization."""
        require(self.sampler in SAMPLERS, "factorization.sampler", self.sampler, ", ".join(SAMPLERS))
        require(self.steps >= 1, "factorization.steps", self.steps, "an integer >= 1")
        samplers = (Ancestral(self.steps), Confidence(self.steps), OneByOne(), LeftToRight(self.steps))
        return MaskedDiffusion(dict(zip(SAMPLERS, samplers, strict=True))[self.sampler])
