"""Score entropy: discrete diffusion that learns ratios of probabilities instead of probabilities."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.categorical import draw, uniforms
from anyorder.factorization.checks import UNKNOWN
from anyorder.factorization.draft import Draft
from anyorder.factorization.exact_counts import ExactCounts
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import TokenNetwork, in_place_slots


class ScoreEntropy(ExactCounts):
    """Absorbing diffusion with the network's outputs as unnormalized concrete scores (SEDD, arXiv 2310.16834).

    The score is ``s_i(y) = r exp(l_i(y))`` with r the known ratio of shown to masked at the time, so time drops out
    (arXiv 2406.03736). Formula: the denoising score entropy, integrated over time, is
    ``-log p(x | c) <= E_k E_M (L / k) sum_{i in M} (sum_y exp(l_i(y)) - 1 - l_i(x_i))`` with k uniform on 1..L: masked
    diffusion's bound with ``Z - 1`` in the place of ``log Z``, Z = sum_y exp(l_i(y)): larger, equal where
    Z = 1.

    Reverse process: a masked position jumps at a rate proportional to its Z, to y with probability exp(l_i(y)) / Z, so
    positions the network is loud about come first; sampling follows it exactly, one jump a call. Left out: the uniform
    transition matrix, tau-leaping.

    ``temperature`` and ``nucleus`` act on the tokens; at temperature 0 the position of the highest rate jumps.

    References:
        Lou, Meng and Ermon, 2023: "Discrete Diffusion Modeling by Estimating the Ratios of the Data
            Distribution", arXiv 2310.16834.
        Ou et al., 2024: "Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of
            Clean Data", arXiv 2406.03736.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = ScoreEntropy()
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[1, 0, 1],
            [0, 1, 2]])
    """

    simulates = True
    normalizes = False

    @override
    def calls(self, length: int) -> int:
        return length

    @override
    def masked_scores(self, network: TokenNetwork, code: Tensor, cache: object, masked: Tensor) -> Tensor:
        """Return ``l_i(x_i) + 1 - sum_y exp(l_i(y))`` where masked and 0 elsewhere, (batch, length), nats."""
        answer, _ = network(in_place_slots(network, code.masked_fill(masked, UNKNOWN)), cache)
        logits = at_least_float32(answer.logits)
        chosen = logits.gather(-1, code.unsqueeze(-1)).squeeze(-1)
        return (chosen + 1 - logits.exp().sum(-1)) * masked

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        cache = network.prefill(context)
        for _ in range(int((draft.code < 0).sum(-1).max())):
            masked = draft.code < 0
            answer, _ = network(in_place_slots(network, draft.code), cache)
            log_rates = torch.logsumexp(at_least_float32(answer.logits), -1)
            log_rates = log_rates.masked_fill(~masked, float("-inf"))
            log_rates[~masked.any(-1)] = 0.0
            noise = uniforms((len(masked),), draft.generator)
            place = draw(log_rates, 0.0 if draft.temperature == 0 else 1.0, 1.0, noise)
            draft.fill(place, answer.at(place))


@dataclass
class ScoreEntropyConfig(FactorizationConfig, choice="score_entropy"):
    """Score entropy; it has no settings of its own."""

    family = ScoreEntropy
