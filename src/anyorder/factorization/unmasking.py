"""Sampling by unmasking: ask the network, draw, reveal what the sampler says, until nothing is masked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from anyorder.errors import NotFiniteError, did_you_mean
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
    Spread,
    Threshold,
)
from anyorder.factorization.schedules import SCHEDULES
from anyorder.settings import setting


@dataclass
class Step:
    """One look at the network: candidates and confidences for a part of the code, computed when asked for.

    Attributes:
        ask: returns the part's logits (batch, part, vocabulary).
        first: where the part begins in the code.
        masked: its unknown positions, boolean (batch, part).
        noise: uniforms (batch, part).
        temperature: of the candidates.
        nucleus: of the candidates.
        legal: what may stand where; None for everything.
    """

    ask: Callable[[], Tensor]
    first: int
    masked: Tensor
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
        """Draw a candidate for every masked position, each legal on its own.

        Returns:
            Its probability under the model, (batch, part); 0 where nothing is masked.
        """
        logits = self.logits[self.masked]
        if self.legal is not None:
            allowed = self.legal.allowed_part(self.first, self.first + self.masked.shape[1])
            logits = forbid(logits, allowed[self.masked])
        candidates = self.draw(logits, self.masked)
        # At temperature 0 every candidate would have probability 1: confidence is the model's own.
        chances = probabilities(logits, 1.0).to(logits.device, widest(logits.device))
        sure = chances.gather(-1, candidates.unsqueeze(-1)).squeeze(-1)
        return sure.new_zeros(self.masked.shape).masked_scatter(self.masked, sure)

    def draw(self, logits: Tensor, where: Tensor) -> Tensor:
        """Draw from the logits of the marked positions, (count, vocabulary), in their order.

        Raises:
            NotFiniteError: names the rows of the batch, not of the logits.
        """
        try:
            return draw(logits, self.temperature, self.nucleus, self.noise[where.to(self.noise.device)])
        except NotFiniteError as error:
            of_batch = where.nonzero()[:, 0].tolist()
            raise NotFiniteError(str(error), rows=sorted({of_batch[row] for row in error.rows})) from error

    def fill(self, part: Tensor, reveal: Tensor) -> Tensor:
        """Return the part with the revealed positions drawn, one after the other so that they can be completed.

        Tokens revealed in one step come from one network call, but each narrows what is legal for the next.
        """
        part = part.clone()
        if self.legal is None:
            part[reveal] = self.draw(self.logits[reveal], reveal)
            return part
        rows = torch.arange(len(part), device=part.device)
        count = reveal.sum(-1)
        # The revealed positions of each row, in order, before the others.
        places = torch.argsort((~reveal).to(torch.uint8), dim=-1, stable=True)
        for k in range(int(count.max())):
            # Rows that have no more repeat their last one, which changes nothing.
            place = places.gather(1, torch.minimum(count - 1, count.new_tensor(k)).clamp_min(0)[:, None])[
                :, 0
            ]
            allowed = self.legal.allowed_rows(self.first + place)
            logits = forbid(self.logits[rows, place], allowed)
            noise = self.noise.gather(1, place[:, None].to(self.noise.device))[:, 0]
            token = draw(logits, self.temperature, self.nucleus, noise)
            token = torch.where(count > k, token, part[rows, place])
            part[rows, place] = token
            self.legal.place_rows(self.first + place, token)
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
        look = Step(lambda now=now: ask(now), first, masked, noise, temperature, nucleus, legal)  # type: ignore[misc]
        reveal = sampler.reveal(step, steps, masked, look.confidence, generator)
        if bool(reveal.any()):
            part = look.fill(part, reveal)
            log_prob = log_prob + (token_scores(look.logits, part.clamp_min(0)) * reveal).sum(-1)
        calls += look.asked
        if sampler.revises:
            again = sampler.remask(step, steps, free & ~masked, generator)
            part = part.masked_fill(again, -1)
            if legal is not None and bool(again.any()):
                legal.place_part(first, part)
        elif not bool((part < 0).any()):
            break
    return part, log_prob, calls


SAMPLERS = ("ancestral", "remasking", "first_hitting", "confidence", "threshold", "left_to_right", "spread")


@dataclass
class UnmaskingConfig(FactorizationConfig):
    """Settings of sampling by unmasking, shared by the families that do.

    Attributes:
        sampler: ``ancestral`` (the reverse process), ``remasking`` (ReMDM: it may take tokens back), ``first_hitting``
            (random order, one by one), ``confidence`` (most confident first), ``threshold`` (all that are confident
            enough), ``left_to_right`` or ``spread`` (evenly spaced ones first).
        steps: network calls per chunk, for the samplers that take a fixed number; 0 for one a token. Tokens of one call
            are drawn independently of each other.
        threshold: confidence from which ``threshold`` reveals.
        remask_rate: largest chance per step that ``remasking`` takes a token back.
        schedule: of the ``bernoulli`` loss: ``linear``, ``maskgit`` and ``md4`` (one function), ``cosine`` (MDLM's,
            their mirror image) or ``polynomial``.
        sampling_schedule: how much a step reveals, one of the same; when null ``schedule`` for the samplers that reveal
            by chance (``ancestral``, ``remasking``) and an equal share for the others.
    """

    sampler: str = "left_to_right"
    steps: int = setting(0, before=32)
    threshold: float = 0.9
    remask_rate: float = 0.1
    schedule: str = "linear"
    sampling_schedule: str | None = None

    def build_sampler(self) -> Sampler:
        """Make the sampler."""
        require(self.steps >= 0, "factorization.steps", self.steps, "an integer >= 0, 0 for one a token")
        require(0 < self.threshold <= 1, "factorization.threshold", self.threshold, "above 0, at most 1")
        require(0 <= self.remask_rate <= 1, "factorization.remask_rate", self.remask_rate, "from 0 to 1")
        for name in ("schedule", "sampling_schedule"):
            chosen = getattr(self, name)
            good = chosen in SCHEDULES or (chosen is None and name == "sampling_schedule")
            require(
                good,
                f"factorization.{name}",
                chosen,
                ", ".join(SCHEDULES) + did_you_mean(str(chosen), SCHEDULES),
            )
        require(self.sampler in SAMPLERS, "factorization.sampler", self.sampler, ", ".join(SAMPLERS))
        by_chance = SCHEDULES[self.sampling_schedule or self.schedule]
        by_rank = SCHEDULES[self.sampling_schedule or "linear"]
        known: dict[str, Sampler] = {
            "ancestral": Ancestral(self.steps, by_chance),
            "remasking": Remasking(self.steps, by_chance, self.remask_rate),
            "first_hitting": FirstHitting(),
            "confidence": Confidence(self.steps, by_rank),
            "threshold": Threshold(self.threshold),
            "left_to_right": LeftToRight(self.steps, by_rank),
            "spread": Spread(self.steps, by_rank),
        }
        return known[self.sampler]
