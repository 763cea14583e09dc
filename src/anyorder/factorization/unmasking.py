"""Sampling by unmasking: ask the network, draw, reveal what the sampler says, until nothing is masked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.categorical import draw, forbid, probabilities, token_scores, uniforms
from anyorder.factorization.checks import require
from anyorder.factorization.constraint import LegalTokens
from anyorder.factorization.precision import widest
from anyorder.factorization.samplers import (
    Ancestral,
    Confidence,
    FirstHitting,
    LeftToRight,
    Remasking,
    Sampler,
    Threshold,
)
from anyorder.factorization.schedules import SCHEDULES, Schedule


@dataclass
class Step:
    """One look at the network: candidates and confidences for a part of the code, computed when asked for.

    Attributes:
        ask: returns the part's logits (batch, part, vocabulary).
        first: where the part begins in the code.
        length: how long it is.
        noise: uniforms (batch, part).
        temperature: of the candidates.
        nucleus: of the candidates.
        legal: what may stand where; None for everything.
    """

    ask: Callable[[], Tensor]
    first: int
    length: int
    noise: Tensor
    temperature: float
    nucleus: float
    legal: LegalTokens | None

    @cached_property
    def logits(self) -> Tensor:
        """The network's answer."""
        return self.ask()

    @property
    def asked(self) -> bool:
        """Whether the network was needed."""
        return "logits" in self.__dict__

    def confidence(self) -> Tensor:
        """Draw a candidate for every position, each legal on its own, and return its probability under the model."""
        logits = self.logits
        if self.legal is not None:
            places = range(self.first, self.first + self.length)
            allowed = torch.stack([self.legal.allowed(i) for i in places], 1)
            logits = forbid(logits, allowed)
        candidates = draw(logits, self.temperature, self.nucleus, self.noise)
        # At temperature 0 every candidate would have probability 1: confidence is the model's own.
        chances = probabilities(logits, 1.0).to(logits.device, widest(logits.device))
        return chances.gather(-1, candidates.unsqueeze(-1)).squeeze(-1)

    def fill(self, part: Tensor, reveal: Tensor) -> Tensor:
        """Return the part with the revealed positions drawn, one after the other so that they can be completed.

        Tokens revealed in one step come from one network call, but each narrows what is legal for the next.
        """
        if self.legal is None:
            return torch.where(reveal, draw(self.logits, self.temperature, self.nucleus, self.noise), part)
        part = part.clone()
        for i in reveal.any(0).nonzero().flatten().tolist():
            allowed = self.legal.allowed(self.first + i)
            logits = forbid(self.logits[:, i], allowed)
            drawn = draw(logits, self.temperature, self.nucleus, self.noise[:, i])
            part[:, i] = torch.where(reveal[:, i], drawn, part[:, i])
            self.legal.place(self.first + i, part[:, i])
        return part


def unmask(
    ask: Callable[[Tensor], Tensor],
    part: Tensor,
    sampler: Sampler,
    *,
    first: int = 0,
    generator: torch.Generator,
    temperature: float,
    nucleus: float,
    legal: LegalTokens | None,
) -> tuple[Tensor, Tensor, int]:
    """Reveal the unknown positions of a part of a code.

    Args:
        ask: maps the part as it stands to its logits (batch, part, vocabulary); called once a step.
        part: (batch, part), unknown < 0; known tokens never change.
        sampler: which positions come when.
        first: where the part begins in the code.
        generator: source of randomness.
        temperature: of the draws.
        nucleus: of the draws.
        legal: what may stand where in the whole code; it is told what is drawn.

    Returns:
        The full part, the sum of the log-probabilities of what was drawn (batch,), and the calls made.
    """
    free = part < 0
    log_prob = torch.zeros(len(part), device=part.device)
    most = int(free.sum(-1).max())
    steps = sampler.forwards(most) if most else 0
    calls = 0
    for step in range(steps):
        now, masked = part, part < 0
        noise = uniforms((part.shape[0], part.shape[1]), generator)
        look = Step(lambda now=now: ask(now), first, part.shape[1], noise, temperature, nucleus, legal)  # type: ignore[misc]
        reveal = sampler.reveal(step, steps, masked, look.confidence, generator)
        if bool(reveal.any()):
            part = look.fill(part, reveal)
            log_prob = log_prob + (token_scores(look.logits, part.clamp_min(0)) * reveal).sum(-1)
        calls += look.asked
        if sampler.revises:
            again = sampler.remask(step, steps, free & ~masked, generator)
            part = part.masked_fill(again, -1)
            if legal is not None:
                for i in again.any(0).nonzero().flatten().tolist():
                    legal.place(first + i, part[:, i])
        elif not bool((part < 0).any()):
            break
    return part, log_prob, calls


def samplers(steps: int, threshold: float, remask_rate: float, schedule: Schedule) -> dict[str, Sampler]:
    """Return every sampler by name."""
    return {
        "ancestral": Ancestral(steps, schedule),
        "remasking": Remasking(steps, schedule, remask_rate),
        "first_hitting": FirstHitting(),
        "confidence": Confidence(steps),
        "threshold": Threshold(threshold),
        "left_to_right": LeftToRight(steps),
    }


@dataclass
class UnmaskingConfig(FactorizationConfig):
    """Settings of sampling by unmasking, shared by the families that do.

    Attributes:
        sampler: ``ancestral`` (the reverse process), ``remasking`` (ReMDM: it may take tokens back), ``first_hitting``
            (random order, one by one), ``confidence`` (most confident first), ``threshold`` (all that are confident
            enough) or ``left_to_right``.
        steps: network calls per chunk, for the samplers that take a fixed number.
        threshold: confidence from which ``threshold`` reveals.
        remask_rate: largest chance per step that ``remasking`` takes a token back.
        schedule: ``linear``, ``cosine`` or ``polynomial``: of the steps, and of the ``bernoulli`` loss.
    """

    sampler: str = "left_to_right"
    steps: int = 32
    threshold: float = 0.9
    remask_rate: float = 0.1
    schedule: str = "linear"

    def build_sampler(self) -> Sampler:
        """Make the sampler."""
        require(self.steps >= 1, "factorization.steps", self.steps, "an integer >= 1")
        require(0 < self.threshold <= 1, "factorization.threshold", self.threshold, "above 0, at most 1")
        require(0 <= self.remask_rate <= 1, "factorization.remask_rate", self.remask_rate, "from 0 to 1")
        require(self.schedule in SCHEDULES, "factorization.schedule", self.schedule, ", ".join(SCHEDULES))
        known = samplers(self.steps, self.threshold, self.remask_rate, SCHEDULES[self.schedule])
        require(self.sampler in known, "factorization.sampler", self.sampler, ", ".join(known))
        return known[self.sampler]
