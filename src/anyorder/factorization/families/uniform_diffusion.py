"""Discrete diffusion with uniform noise: tokens jump to random ones, and back."""

from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig, TokenFactorization
from anyorder.factorization.categorical import inverse_cdf, uniforms
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.draft import Draft
from anyorder.factorization.noise_time import with_time
from anyorder.factorization.precision import at_least_float32
from anyorder.factorization.slots import TokenNetwork, in_place_slots
from anyorder.factorization.strata import stratified
from anyorder.settings import setting


class UniformDiffusion(TokenFactorization):
    """Every token is replaced by a uniform one with growing probability, and the network undoes it (D3PM, arXiv
    2107.03006).

    Formula: ``q(x_t | x) = a_t x + (1 - a_t) / V`` per token with a_t = 1 - t / T, and
    ``-log p(x | c) <= sum_{t=1..T} KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t, c))``, where the network predicts x from
    (x_t, t, c) and ``p(x_{t-1} | x_t) = sum_x q(x_{t-1} | x_t, x) p(x | x_t, c)`` per token; at t = 1 the term is
    ``-log p(x | x_1)``, and a_T = 0 leaves nothing of the prior. Training draws one t per sequence, stratified.

    Any token can be revised until the last step, but the network has to find out which ones are noise: nothing marks
    them. Slot i carries x_t[i], sits at i, predicts i and sees all slots; t is a further context token. Left out: other
    noise than uniform.

    ``known`` tokens are held clean throughout, an approximation. ``temperature`` and ``nucleus`` act on the prediction
    of the clean tokens; a constraint acts at the last step, where the code is drawn left to right.

    Args:
        steps: T, in training and sampling alike.
        auxiliary: weight of ``-log p(x | x_t, c)`` in the training loss, for every t alike. The bound alone hardly
            trains what the network says about heavy noise, where sampling begins; likelihoods leave it out.

    References:
        Austin et al., 2021: "Structured Denoising Diffusion Models in Discrete State-Spaces", arXiv 2107.03006.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = UniformDiffusion(steps=4)
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[0, 2, 1],
            [0, 1, 0]])
    """

    exact = False
    simulates = True
    infills = "approximate"

    def __init__(self, steps: int, auxiliary: float = 0.0) -> None:
        self.steps = steps
        self.auxiliary = auxiliary
        self.loss_scores = auxiliary == 0

    @override
    def calls(self, length: int) -> int:
        return self.steps

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        times = 1 + (stratified(len(code), generator) * self.steps).long().clamp_max(self.steps - 1)
        times = times.to(code.device)
        divergence, surprise = self.divergence(network, code, context, times, generator)
        return (self.steps * divergence + self.auxiliary * surprise).sum(-1)

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return ``samples`` draws of each token's share of the bound; t is stratified over a sequence's draws."""
        levels = torch.stack([stratified(samples, generator) for _ in range(len(code))], 1)
        times = 1 + (levels * self.steps).long().clamp_max(self.steps - 1)
        times = times.to(code.device)
        draws = [self.divergence(network, code, context, t, generator)[0] for t in times]
        return -self.steps * torch.stack(draws)

    def divergence(
        self, network: TokenNetwork, code: Tensor, context: Tensor, times: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return ``KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t, c))`` and ``-log p(x | x_t, c)`` for a drawn x_t.

        Both are per token, (batch, length), nats, in the network's precision, float32 at least: no term of the laws is
        a difference, so float64 over (batch, length, vocabulary) would cost memory and time for digits beyond the
        network's own.
        """
        vocab = network.vocab_size
        chance = uniforms(tuple(code.shape), generator)
        replaced = chance >= 1 - times.to(chance).unsqueeze(1) / self.steps
        random = (uniforms(tuple(code.shape), generator) * vocab).long()
        noisy = torch.where(replaced.to(code.device), random.to(code.device), code)
        answer = self.ask(network, noisy, context, times)
        predicted = torch.softmax(at_least_float32(answer.logits), -1)
        one_hot = torch.nn.functional.one_hot(code, vocab).to(predicted)
        truth = self.posterior(noisy, one_hot, times)
        model = self.posterior(noisy, predicted, times)
        # Apart, as the gradient of xlogy(truth, truth / model) is NaN where the truth is 0.
        divergence = (torch.xlogy(truth, truth) - truth * model.clamp_min(torch.finfo(model.dtype).tiny).log()).sum(-1)
        return divergence, -answer.log_prob(code)

    def ask(self, network: TokenNetwork, noisy: Tensor, context: Tensor, times: Tensor) -> Conditionals:
        """Return what the network says of the clean tokens, (batch, length)."""
        cache = network.prefill(with_time(context, times / self.steps))
        return network(in_place_slots(network, noisy), cache)[0]

    def posterior(self, noisy: Tensor, clean: Tensor, times: Tensor) -> Tensor:
        """Return the law of x_{t-1} given x_t and a law of x, all per token.

        Args:
            noisy: x_t, (batch, length).
            clean: probabilities of x, (batch, length, vocabulary).
            times: t in 1..T, (batch,).

        Returns:
            ``q(x_{t-1} | x_t, x)`` averaged over x, (batch, length, vocabulary).
        """
        vocab = clean.shape[-1]
        t = times.to(clean).view(-1, 1, 1)
        # Shares kept and shares lost, each from whole numbers: a lost share as 1 minus the other loses digits.
        now, gone = (self.steps - t) / self.steps, t / self.steps
        before, gone_before = (self.steps - t + 1) / self.steps, (t - 1) / self.steps
        step, jump = (self.steps - t) / (self.steps - t + 1), 1 / (self.steps - t + 1)
        seen = torch.nn.functional.one_hot(noisy, vocab).to(clean)
        # q(x_t | x_{t-1}) as a function of x_{t-1}, and the normalizer q(x_t | x) as a function of x.
        likelihood = step * seen + jump / vocab
        evidence = now * seen + gone / vocab
        weighted = clean / evidence
        prior = before * weighted + gone_before / vocab * weighted.sum(-1, keepdim=True)
        law: Tensor = likelihood * prior
        return law / law.sum(-1, keepdim=True)

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        frozen, vocab = draft.code, network.vocab_size
        noisy = (uniforms(tuple(frozen.shape), draft.generator) * vocab).long().to(context.device)
        for t in range(self.steps, 0, -1):
            noisy = torch.where(frozen >= 0, frozen, noisy)
            times = torch.full((len(frozen),), t, device=context.device)
            answer = self.ask(network, noisy, context, times)
            noise = uniforms(tuple(frozen.shape), draft.generator)
            if t == 1 and draft.legal is not None:
                draft.fill_part(0, frozen < 0, answer, noise)
            else:
                clean = draft.law(answer)
                law = self.posterior(noisy.to(clean.device), clean, times)
                noisy = inverse_cdf(law, noise).to(context.device)
        draft.put(0, torch.where(draft.code >= 0, draft.code, noisy))


@dataclass
class UniformDiffusionConfig(FactorizationConfig, choice="uniform_diffusion"):
    """Discrete diffusion with uniform noise."""

    family = UniformDiffusion

    steps: int = setting(32, "Noise levels, and network calls per chunk.", least=1)
    auxiliary: float = setting(8.0, "Weight of the cross-entropy of the clean tokens in the training loss.", least=0)
