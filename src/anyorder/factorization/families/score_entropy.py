"""Score entropy: discrete diffusion that learns ratios of probabilities instead of probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig, Sample, TokenNetwork, in_place_slots
from anyorder.factorization.categorical import draw, forbid, uniforms
from anyorder.factorization.checks import UNKNOWN, check_known
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.families.masked_diffusion import ExactCounts
from anyorder.factorization.precision import at_least_float32


class ScoreEntropy(ExactCounts):
    """Absorbing diffusion with the network's outputs as unnormalised concrete scores (SEDD, arXiv 2310.16834).

    The score is ``s_i(y) = r exp(l_i(y))`` with r the known ratio of shown to masked at the time, so time drops out
    (arXiv 2406.03736). Formula: the denoising score entropy, integrated over time, is
    ``-log p(x | c) <= E_k E_M (L / k) sum_{i in M} (sum_y exp(l_i(y)) - 1 - l_i(x_i))`` with k uniform on 1..L: masked
    diffusion's bound with ``Z - 1`` in the place of ``log Z``, Z = sum_y exp(l_i(y)): larger, equal where
    Z = 1.

    Reverse process: a masked position jumps at a rate proportional to its Z, to y with probability exp(l_i(y)) / Z, so
    positions the network is loud about come first; sampling follows it exactly, one jump a call. Left out: the uniform
    transition matrix, tau-leaping.
    """

    simulates = True

    def forwards(self, length: int) -> int:
        """Return one call per token."""
        return length

    def masked_scores(self, network: TokenNetwork, tokens: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``l_i(x_i) + 1 - sum_y exp(l_i(y))`` where masked and 0 elsewhere, (batch, length), nats."""
        logits, _ = network(in_place_slots(network, tokens.masked_fill(masked, UNKNOWN)), cache)
        logits = at_least_float32(logits)
        chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return (chosen + 1 - logits.exp().sum(-1)) * masked

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
        """Follow the reverse process jump by jump; ``known`` may freeze any positions.

        ``temperature`` and ``nucleus`` act on the tokens, and at temperature 0 the position of the highest rate jumps.
        """
        chunk = check_known(known, context, network.length, network.vocab_size)
        legal = None if constraint is None else LegalTokens(constraint, chunk)
        cache = network.prefill(context)
        calls = 0
        for _ in range(int((chunk < 0).sum(-1).max())):
            logits, _ = network(in_place_slots(network, chunk), cache)
            calls += 1
            masked = chunk < 0
            log_rates = torch.logsumexp(at_least_float32(logits), -1).masked_fill(~masked, float("-inf"))
            done = ~masked.any(-1)
            log_rates[done] = 0.0
            place_noise, token_noise = uniforms((len(chunk),), generator), uniforms((len(chunk),), generator)
            place = draw(log_rates, 0.0 if temperature == 0 else 1.0, 1.0, place_noise)
            choices = logits.gather(1, place.view(-1, 1, 1).expand(-1, 1, logits.shape[-1])).squeeze(1)
            if legal is not None:
                choices = forbid(choices, legal.allowed_rows(place))
            token = draw(choices, temperature, nucleus, token_noise)
            token = torch.where(done, chunk.gather(1, place.unsqueeze(1)).squeeze(1), token)
            if legal is not None:
                legal.place_rows(place, token)
            chunk = chunk.scatter(1, place.unsqueeze(1), token.unsqueeze(1))
        return Sample(chunk, None, forwards=calls, slots=calls * network.length)


@dataclass
class ScoreEntropyConfig(FactorizationConfig, choice="score_entropy"):
    """Score entropy; it has no settings of its own."""

    def build(self) -> ScoreEntropy:
        """Make the factorization."""
        return ScoreEntropy()
