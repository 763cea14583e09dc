"""Discrete diffusion: tokens become noise step by step, to random ones or to near ones, and back."""

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
from anyorder.factorization.transitions import DiscretizedGaussian, Transitions, Uniform
from anyorder.settings import setting


class UniformDiffusion(TokenFactorization):
    """Every token walks to uniform noise, by jumps or by steps to near numbers, and the network undoes it (D3PM, arXiv
    2107.03006).

    Formula: ``-log p(x | c) <= sum_{t=1..T} KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t, c)) + KL(q(x_T | x) ||
    uniform)``, where the network predicts x from (x_t, t, c) and
    ``p(x_{t-1} | x_t) = sum_x q(x_{t-1} | x_t, x) p(x | x_t, c)`` per token; at t = 1 the term is ``-log p(x | x_1)``.
    Training draws one t per sequence, stratified. The chain q is ``noise``: ``Uniform`` leaves nothing of x at T, so
    its last term is 0; ``DiscretizedGaussian`` is for tokens that are numbers.

    Any token can be revised until the last step, but the network has to find out which ones are noise: nothing marks
    them. Slot i carries x_t[i], sits at i, predicts i and sees all slots; t is a further context token.

    ``known`` tokens are held clean throughout, an approximation. ``temperature`` and ``nucleus`` act on the prediction
    of the clean tokens; a constraint acts at the last step, where the code is drawn left to right.

    Args:
        noise: the chain; its steps are T, in training and sampling alike.
        auxiliary: weight of ``-log p(x | x_t, c)`` in the training loss, for every t alike. The bound alone hardly
            trains what the network says about heavy noise, where sampling begins; likelihoods leave it out.

    References:
        Austin et al., 2021: "Structured Denoising Diffusion Models in Discrete State-Spaces", arXiv 2107.03006.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = UniformDiffusion(Uniform(steps=4))
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[0, 2, 1],
            [0, 1, 0]])
    """

    exact = False
    simulates = True
    infills = "approximate"

    def __init__(self, noise: Transitions, auxiliary: float = 0.0) -> None:
        self.noise = noise
        self.steps = noise.steps
        self.auxiliary = auxiliary
        self.loss_scores = auxiliary == 0
        self.needs_numbers = noise.ordered

    @override
    def calls(self, length: int) -> int:
        return self.steps

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        times = 1 + (stratified(len(code), generator) * self.steps).long().clamp_max(self.steps - 1)
        times = times.to(code.device)
        bound, surprise = self.terms(network, code, context, times, generator)
        return (bound + self.auxiliary * surprise).sum(-1)

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return ``samples`` draws of each token's share of the bound; t is stratified over a sequence's draws."""
        levels = torch.stack([stratified(samples, generator) for _ in range(len(code))], 1)
        times = 1 + (levels * self.steps).long().clamp_max(self.steps - 1)
        times = times.to(code.device)
        return -torch.stack([self.terms(network, code, context, t, generator)[0] for t in times])

    def terms(
        self, network: TokenNetwork, code: Tensor, context: Tensor, times: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what a drawn x_t says of the bound, and ``-log p(x | x_t, c)``.

        The former is ``T KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t, c)) + KL(q(x_T | x) || uniform)``, whose mean over
        t and x_t is the bound on -log p. Both are per token, (batch, length), nats, in the network's precision, float32
        at least: no term of the laws is a difference, so float64 over (batch, length, vocabulary) would cost memory and
        time for digits beyond the network's own.
        """
        noisy = self.noise.noised(code, times, network.vocab_size, generator)
        answer = self.ask(network, noisy, context, times)
        predicted = torch.softmax(at_least_float32(answer.logits), -1)
        one_hot = torch.nn.functional.one_hot(code, network.vocab_size).to(predicted)
        truth = self.noise.posterior(noisy, one_hot, times)
        model = self.noise.posterior(noisy, predicted, times)
        # Apart, as the gradient of xlogy(truth, truth / model) is NaN where the truth is 0.
        divergence = (torch.xlogy(truth, truth) - truth * model.clamp_min(torch.finfo(model.dtype).tiny).log()).sum(-1)
        remaining = self.noise.remaining(code, network.vocab_size).to(divergence)
        return self.steps * divergence + remaining, -answer.log_prob(code)

    def ask(self, network: TokenNetwork, noisy: Tensor, context: Tensor, times: Tensor) -> Conditionals:
        """Return what the network says of the clean tokens, (batch, length)."""
        cache = network.prefill(with_time(context, times / self.steps))
        answer, _ = network(in_place_slots(network, noisy), cache)
        return self.noise.informed(answer, noisy, times)

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
                law = self.noise.posterior(noisy.to(clean.device), clean, times)
                noisy = inverse_cdf(law, noise).to(context.device)
        draft.put(0, torch.where(draft.code >= 0, draft.code, noisy))


NOISES: dict[str, type[Transitions]] = {"uniform": Uniform, "gaussian": DiscretizedGaussian}
"""The chains by the names that settings give them."""


@dataclass
class UniformDiffusionConfig(FactorizationConfig, choice="uniform_diffusion"):
    """Discrete diffusion that ends in uniform noise."""

    family = UniformDiffusion

    steps: int = setting(32, "Noise levels, and network calls per chunk.", least=1)
    auxiliary: float = setting(8.0, "Weight of the cross-entropy of the clean tokens in the training loss.", least=0)
    noise: str = setting(
        "uniform",
        "How tokens become noise: uniform (a token jumps to any other) or gaussian (to near numbers first, far ones "
        "later; for tokenizers each of whose tokens is a number, as dct, bins and bspline).",
        among=NOISES,
    )

    @override
    def build(self) -> UniformDiffusion:
        """Make the factorization."""
        return UniformDiffusion(NOISES[self.noise](self.steps), self.auxiliary)
