"""How tokens become noise, step by step: the Markov chains that discrete diffusion undoes."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import ClassVar, NamedTuple, override

import torch
from torch import Tensor

from anyorder.factorization.categorical import inverse_cdf, uniforms
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.precision import at_least_float32, widest


class Transitions(ABC):
    """A Markov chain ``q(x_t | x_{t-1})`` that each token walks by itself in T steps, from x to (nearly) uniform noise.

    Args:
        steps: T.

    Attributes:
        ordered: tokens have to be numbers, as the chain takes them to near ones.
    """

    ordered: ClassVar[bool]

    def __init__(self, steps: int) -> None:
        self.steps = steps

    @abstractmethod
    def noised(self, code: Tensor, times: Tensor, vocab: int, generator: torch.Generator) -> Tensor:
        """Draw x_t given x: ``code`` (batch, length) and ``times`` t in 1..T, (batch,), to (batch, length)."""

    @abstractmethod
    def posterior(self, noisy: Tensor, clean: Tensor, times: Tensor) -> Tensor:
        """Return the law of x_{t-1} given x_t and a law of x, all per token.

        Args:
            noisy: x_t, (batch, length).
            clean: probabilities of x, (batch, length, vocabulary).
            times: t in 1..T, (batch,).

        Returns:
            ``q(x_{t-1} | x_t, x)`` averaged over x, (batch, length, vocabulary).
        """

    def informed(self, answer: Conditionals, noisy: Tensor, times: Tensor) -> Conditionals:
        """Return the law of x given x_t, (batch, length), that a network's answer stands for: that answer."""
        return answer

    def remaining(self, code: Tensor, vocab: int) -> Tensor:
        """Return ``KL(q(x_T | x) || uniform)``, nats per token of ``code``: what the end still tells of the start."""
        return torch.zeros(code.shape, device=code.device)


class Uniform(Transitions):
    """A token is replaced by a uniform one with growing probability (Austin et al., 2021, arXiv 2107.03006, A.2.1).

    Formula: ``q(x_t | x) = a_t x + (1 - a_t) / V`` with a_t = 1 - t / T, so that a_T = 0 leaves nothing of x.
    """

    ordered = False

    @override
    def noised(self, code: Tensor, times: Tensor, vocab: int, generator: torch.Generator) -> Tensor:
        chance = uniforms(tuple(code.shape), generator)
        replaced = chance >= 1 - times.to(chance).unsqueeze(1) / self.steps
        random = (uniforms(tuple(code.shape), generator) * vocab).long()
        return torch.where(replaced.to(code.device), random.to(code.device), code)

    @override
    def posterior(self, noisy: Tensor, clean: Tensor, times: Tensor) -> Tensor:
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


FIRST_DEVIATION = 0.5
"""The first step of ``DiscretizedGaussian`` moves a token by so many numbers, as a standard deviation."""
LAST_BETA = 2.0
"""The last step of ``DiscretizedGaussian`` has this beta: from its token it goes nearly anywhere."""
FLOOR = 1e-9
"""This share of each step of ``DiscretizedGaussian`` is uniform."""


class DiscretizedGaussian(Transitions):
    """A token that is a number moves to near ones first, and to far ones later (Austin et al., 2021, arXiv 2107.03006,
    A.2.3).

    Formula: ``Q_t[i, j]`` for i != j is ``exp(-4 (i - j)^2 / ((V - 1)^2 b_t))`` over the sum of
    ``exp(-4 n^2 / ((V - 1)^2 b_t))`` for n from -(V - 1) to V - 1, and ``Q_t[i, i]`` is what is left to 1:
    symmetric, so the uniform law stays.

    b_t grows geometrically, from steps of half a number to steps over the whole range. The paper's grows linearly over
    1,000 steps; in few steps that is coarser than numbers from the first on. What the end still tells of the start,
    ``remaining``, is counted in the bound: with 32 steps and 200 tokens at most 0.005 nats a token. A share of 1e-9 of
    each step is uniform, so that every token can come from every other and float32 holds all ratios.

    The network's answer r(x) is read as what is known of x from everything but the noise of its own token, so that
    ``p(x | x_t, c)`` is proportional to ``r(x) q(x_t | x)``. By this ``p(x_{t-1} | x_t, c)`` is that of the paper's
    equation 4, the sum over x of ``q(x_{t-1}, x_t | x) r(x)``, normalized.
    """

    ordered = True

    @override
    def noised(self, code: Tensor, times: Tensor, vocab: int, generator: torch.Generator) -> Tensor:
        tables = tables_for(self.steps, vocab, code.device, widest(code.device))
        return inverse_cdf(tables.total[times.unsqueeze(1), code], uniforms(tuple(code.shape), generator))

    @override
    def posterior(self, noisy: Tensor, clean: Tensor, times: Tensor) -> Tensor:
        tables = tables_for(self.steps, clean.shape[-1], clean.device, clean.dtype)
        times, noisy = times.to(clean.device), noisy.to(clean.device)
        likelihood = tables.step[times.unsqueeze(1), noisy]
        weighted = clean / tables.total[times.unsqueeze(1), :, noisy]
        # Autocast would sum in bfloat16.
        with torch.autocast(clean.device.type, enabled=False):
            law: Tensor = likelihood * (weighted @ tables.total[times - 1])
        return law / law.sum(-1, keepdim=True)

    @override
    def informed(self, answer: Conditionals, noisy: Tensor, times: Tensor) -> Conditionals:
        logits = at_least_float32(answer.logits)
        tables = tables_for(self.steps, logits.shape[-1], logits.device, logits.dtype)
        return answer.weighted(tables.total[times.unsqueeze(1), :, noisy].log())

    @override
    def remaining(self, code: Tensor, vocab: int) -> Tensor:
        end = tables_for(self.steps, vocab, code.device, widest(code.device)).total[self.steps]
        return torch.xlogy(end, end * vocab).sum(-1)[code]


class Tables(NamedTuple):
    """The matrices of a chain over tokens, each (T + 1, vocabulary, vocabulary).

    Attributes:
        step: ``q(x_t = j | x_{t-1} = i)`` at [t, i, j]; the identity at t = 0.
        total: ``q(x_t = j | x = i)`` at [t, i, j].
    """

    step: Tensor
    total: Tensor


@lru_cache(maxsize=8)
def tables_for(steps: int, vocab: int, device: torch.device, dtype: torch.dtype) -> Tables:
    """Return the matrices of ``DiscretizedGaussian``, made in float64 and kept for the next call.

    >>> tables = tables_for(2, 3, torch.device("cpu"), torch.float64)
    >>> tables.total[2].sum(0)
    tensor([1.0000, 1.0000, 1.0000], dtype=torch.float64)
    """
    # Made for training, too, if it is sampling that asks first.
    with torch.inference_mode(False), torch.no_grad():
        matrices = [torch.eye(vocab, dtype=torch.float64)]
        matrices += [gaussian_step(beta, vocab) for beta in betas(steps, vocab)]
        totals = [matrices[0]]
        for matrix in matrices[1:]:
            totals.append(totals[-1] @ matrix)
        return Tables(*(torch.stack(table).to(device, dtype) for table in (matrices, totals)))


def betas(steps: int, vocab: int) -> list[float]:
    """Return b_1 to b_T, each a fixed multiple of the one before.

    >>> betas(3, 5)
    [0.125, 0.5, 2.0]
    """
    first = min(LAST_BETA, 8 * FIRST_DEVIATION**2 / max(1, vocab - 1) ** 2)
    ratio = (LAST_BETA / first) ** (1 / max(1, steps - 1))
    return [LAST_BETA / ratio**back for back in range(steps - 1, -1, -1)]


def gaussian_step(beta: float, vocab: int) -> Tensor:
    """Return Q of one step, (vocabulary, vocabulary), float64; see ``DiscretizedGaussian``.

    >>> gaussian_step(1.0, 3)
    tensor([[0.7821, 0.2076, 0.0103],
            [0.2076, 0.5849, 0.2076],
            [0.0103, 0.2076, 0.7821]], dtype=torch.float64)
    """
    distance = torch.arange(vocab, dtype=torch.float64)
    weight = torch.exp(-4 * distance.square() / (max(1, vocab - 1) ** 2 * beta))
    weight = weight / (2 * weight.sum() - weight[0])
    matrix = weight[(distance.unsqueeze(0) - distance.unsqueeze(1)).abs().long()].fill_diagonal_(0.0)
    matrix += torch.diag(1 - matrix.sum(1))
    return (1 - FLOOR) * matrix + FLOOR / vocab
