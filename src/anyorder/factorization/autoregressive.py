"""Left-to-right autoregression: p(x | c) = prod_i p(x_i | x_<i, c)."""

from dataclasses import dataclass

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
)
from anyorder.factorization.categorical import inverse_cdf, probabilities, uniforms
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton


class Autoregressive(TokenFactorization):
    """The chain rule in code order, one network call per token when sampling.

    Formula: ``log p(x | c) = sum_i log p(x_i | x_<i, c)``, exact. Slot j carries x[j-1] (START for j = 0), sits at
    j-1, predicts j and sees slots <= j, so training scores every conditional in one call.

    FAST policies (arXiv 2501.09747) are this family over DCT tokens.
    """

    exact = True

    def token_log_probs(self, network: TokenNetwork, tokens: Tensor, context: Tensor) -> Tensor:
        """Return log p(x_i | x_<i, c) for every position, shape (batch, length), nats."""
        slots = left_to_right_slots(network, tokens)
        visible = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
        logits, _ = network(slots, network.prefill(context), visible)
        return torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    def loss(
        self, network: TokenNetwork, chunk: Tensor, context: Tensor, *, generator: torch.Generator
    ) -> Tensor:
        """Return -log p(tokens | context) per sequence, nats; nothing is random."""
        return -self.token_log_probs(network, chunk, context).sum(-1)

    def log_prob(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 32,
    ) -> LogProb:
        """Return the exact log-likelihood; ``samples`` and ``generator`` are not used."""
        value = self.token_log_probs(network, tokens, context).sum(-1)
        return LogProb(value, torch.zeros_like(value))

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
        """Draw tokens left to right with a key-value cache; ``known`` may freeze a prefix."""
        batch, length = context.shape[0], network.length
        prefix = prefix_lengths(known, batch, length, context.device)
        chunk = torch.full((batch, length), UNKNOWN, device=context.device)
        log_prob = torch.zeros(batch, device=context.device)
        legal = None
        if constraint is not None:
            legal = LegalTokens(constraint, chunk if known is None else known)
        cache = network.prefill(context)
        previous = torch.full((batch,), network.vocab_size + 1, device=context.device)
        for i in range(length):
            slot = Slots(
                previous.unsqueeze(1),
                torch.full_like(previous, i - 1 if i else length).unsqueeze(1),
                torch.full_like(previous, i).unsqueeze(1),
            )
            logits, cache = network(slot, cache)
            choices = logits[:, 0]
            if legal is not None:
                choices = choices.masked_fill(~legal.allowed(i), float("-inf"))
            token = inverse_cdf(probabilities(choices, temperature), uniforms((batch,), generator))
            free = i >= prefix
            if known is not None:
                token = torch.where(free, token, known[:, i])
            score = torch.log_softmax(logits[:, 0], -1).gather(-1, token.unsqueeze(-1)).squeeze(-1)
            log_prob = log_prob + torch.where(free, score, torch.zeros_like(score))
            if legal is not None:
                legal.place(i, token)
            chunk[:, i] = token
            previous = token
        return Sample(chunk, log_prob, forwards=length, slots=length)


def left_to_right_slots(network: TokenNetwork, tokens: Tensor) -> Slots:
    """Return the slots that score ``tokens`` (batch, length) left to right."""
    batch, length = tokens.shape
    targets = torch.arange(length, device=tokens.device).expand(batch, length)
    start = tokens.new_full((batch, 1), network.vocab_size + 1)
    positions = torch.cat([targets.new_full((batch, 1), length), targets[:, :-1]], 1)
    return Slots(torch.cat([start, tokens[:, :-1]], 1), positions, targets)


def prefix_lengths(known: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor:
    """Return how many leading positions are frozen per row, shape (batch,).

    Raises:
        ConfigError: ``known`` has another shape, or freezes positions that are no prefix.
    """
    if known is None:
        return torch.zeros(batch, dtype=torch.int64, device=device)
    if known.shape != (batch, length):
        raise ConfigError(bad_value("known", tuple(known.shape), f"shape {(batch, length)}"))
    frozen = known >= 0
    prefix = frozen.long().cumprod(-1).sum(-1)
    if bool((frozen.sum(-1) != prefix).any()):
        raise ConfigError(bad_value("known", "positions with gaps", "a prefix, for left-to-right sampling"))
    return prefix


@dataclass
class AutoregressiveConfig(FactorizationConfig, choice="autoregressive"):
    """Left-to-right autoregression; it has no settings of its own."""

    def build(self) -> Autoregressive:
        """Make the factorization."""
        return Autoregressive()
