"""Sampling by unmasking: ask the network, draw, reveal what the sampler says, until nothing is masked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from anyorder.factorization.base import FactorizationConfig
from anyorder.factorization.categorical import probabilities, uniforms
from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.draft import Draft
from anyorder.factorization.precision import widest
from anyorder.factorization.samplers import (
    Ancestral,
    CodeOrder,
    Confidence,
    FirstHitting,
    Remasking,
    Sampler,
    Spread,
    Threshold,
)
from anyorder.factorization.schedules import SCHEDULES
from anyorder.settings import setting

Ask = Callable[[Tensor], Conditionals]
"""A function from a part of a code as it stands, (batch, part), to what the network says of it."""


class Look:
    """One look at the network, taken where a step needs it: at most one call.

    Args:
        draft: the code.
        ask: maps the part as it stands to what the network says of it.
        first: where the part begins in the code.
        masked: its free positions, boolean (batch, part).
    """

    def __init__(self, draft: Draft, ask: Ask, first: int, masked: Tensor) -> None:
        self.draft, self.ask, self.first, self.masked = draft, ask, first, masked
        self.noise = uniforms((masked.shape[0], masked.shape[1]), draft.generator)

    @cached_property
    def answer(self) -> Conditionals:
        """What the network says of the part, (batch, part)."""
        return self.ask(self.draft.code[:, self.first : self.first + self.masked.shape[1]])

    def confidence(self) -> Tensor:
        """Draw a candidate for every masked position, each legal on its own.

        Returns:
            Its probability under the model, (batch, part); 0 where nothing is masked.
        """
        answer = self.answer.marked(self.masked)
        if self.draft.legal is not None:
            allowed = self.draft.legal.allowed_part(self.first, self.first + self.masked.shape[1])
            answer = answer.restricted(allowed[self.masked])
        candidates = self.draft.draw(answer, self.masked, self.noise)
        # At temperature 0 every candidate would have probability 1: confidence is the model's own.
        chances = probabilities(answer.logits, 1.0).to(answer.logits.device, widest(answer.logits.device))
        sure = chances.gather(-1, candidates.unsqueeze(-1)).squeeze(-1)
        return sure.new_zeros(self.masked.shape).masked_scatter(self.masked, sure)


def unmask(draft: Draft, sampler: Sampler, ask: Ask, first: int = 0, last: int | None = None) -> None:
    """Reveal the free positions of a part of a code; known tokens never change.

    Args:
        draft: the code; the log-probabilities of what is drawn count.
        sampler: which positions come when.
        ask: maps the part as it stands (batch, part) to what the network says of it; called at most once a step.
        first: where the part begins in the code.
        last: where it ends, excluded; at the code's end when None.
    """
    part = slice(first, last)
    free = draft.code[:, part] < 0
    log_prob = torch.zeros(len(free), device=free.device)
    most = int(free.sum(-1).max())
    steps = sampler.calls(most) if most else 0
    for step in range(steps):
        masked = draft.code[:, part] < 0
        look = Look(draft, ask, first, masked)
        reveal = sampler.reveal(step, steps, masked, look.confidence, draft.generator)
        if bool(reveal.any()):
            draft.fill_part(first, reveal, look.answer, look.noise)
            scores = look.answer.log_prob(draft.code[:, part].clamp_min(0))
            log_prob = log_prob + (scores * reveal).sum(-1)
        if sampler.revises:
            draft.clear(first, sampler.remask(step, steps, free & ~masked, draft.generator))
        elif not bool((draft.code[:, part] < 0).any()):
            break
    draft.score(log_prob)


SAMPLERS = ("ancestral", "remasking", "first_hitting", "confidence", "threshold", "left_to_right", "spread")


@dataclass
class UnmaskingConfig(FactorizationConfig):
    """Settings of sampling by unmasking, shared by the families that do."""

    sampler: str = setting(
        "left_to_right",
        "Which tokens are revealed when: ancestral (the reverse process), remasking (ReMDM: it may take tokens back), "
        "first_hitting (random order, one by one), confidence (most confident first), threshold (all that are "
        "confident enough), left_to_right or spread (evenly spaced ones first).",
        among=SAMPLERS,
    )
    steps: int = setting(
        0,
        "Network calls per chunk, for the samplers that take a fixed number; 0 for one a token. Tokens of one call "
        "are drawn independently of each other.",
        least=0,
        before=32,
    )
    threshold: float = setting(0.9, "Confidence from which the sampler threshold reveals.", above=0, most=1)
    remask_rate: float = setting(
        0.1, "Largest chance per step that the sampler remasking takes a token back.", least=0, most=1
    )
    schedule: str = setting(
        "linear",
        "How much is masked when, of the bernoulli loss: linear, maskgit and md4 (one function), cosine (MDLM's, "
        "their mirror image) or polynomial.",
        among=SCHEDULES,
    )
    sampling_schedule: str | None = setting(
        None,
        "How much a step reveals, one of the same as schedule. When null it is schedule for the samplers that reveal "
        "by chance (ancestral, remasking), and an equal share for the others.",
        among=SCHEDULES,
    )

    def build_sampler(self) -> Sampler:
        """Make the sampler."""
        by_chance = SCHEDULES[self.sampling_schedule or self.schedule]
        by_rank = SCHEDULES[self.sampling_schedule or "linear"]
        known: dict[str, Sampler] = {
            "ancestral": Ancestral(self.steps, by_chance),
            "remasking": Remasking(self.steps, by_chance, self.remask_rate),
            "first_hitting": FirstHitting(),
            "confidence": Confidence(self.steps, by_rank),
            "threshold": Threshold(self.threshold),
            "left_to_right": CodeOrder(self.steps, by_rank),
            "spread": Spread(self.steps, by_rank),
        }
        return known[self.sampler]
