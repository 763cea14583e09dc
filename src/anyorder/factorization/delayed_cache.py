"""Unmasking with a cache: tokens that were revealed some steps ago are not computed again."""

from typing import Any

import torch
from torch import Tensor

from anyorder.factorization.conditionals import Conditionals
from anyorder.factorization.slots import Slots, TokenNetwork, in_place_slots


class DelayedCache:
    """Asks a network about codes that fill up, and keeps keys and values of revealed tokens between full passes.

    A token's keys and values depend on all that it saw, so later ones would be a little different: what is kept is an
    approximation, but for networks of one block, whose keys know their own slot alone. A token is kept from the first
    call that sees it revealed on: one call after it was drawn (dKV-Cache, Ma, Yu, Fang and Wang, 2025: "dKV-Cache: The
    Cache for Diffusion Language Models", arXiv 2505.15781). Of a batch, as many tokens a row are kept as every row has.

    Args:
        network: a network whose slots see each other.
        context: (batch, context tokens, width).
        refresh: calls from a full pass to the next; with 1 every call is one, and nothing is approximated.
    """

    def __init__(self, network: TokenNetwork, context: Tensor, refresh: int) -> None:
        self.network = network
        self.refresh = refresh
        self.prefilled = network.prefill(context)
        self.calls = 0
        self.cache: Any = self.prefilled
        self.kept: Tensor | None = None

    def ask(self, code: Tensor) -> Conditionals:
        """Return the conditionals (batch, length) of a code as it stands; those of kept tokens mean nothing."""
        if self.refresh == 1:
            return self.network(in_place_slots(self.network, code), self.prefilled)[0]
        slots = in_place_slots(self.network, code)
        if self.calls % self.refresh == 0:
            self.cache, self.kept = self.prefilled, torch.zeros_like(code, dtype=torch.bool)
        self.calls += 1
        assert self.kept is not None
        # What is kept comes first, and is left out; then what was revealed since, and then what is masked.
        rank = torch.where(self.kept, 0, torch.where(code >= 0, 1, 2))
        order = rank.argsort(dim=1, stable=True)
        done = int(self.kept[0].sum())
        asked = order[:, done:]
        new = int(((code >= 0) & ~self.kept).sum(1).min())
        parts = Slots(*(x.expand_as(code).gather(1, asked) for x in slots))
        answer, self.cache = self.network(parts, self.cache, keep=new)
        self.kept = self.kept.scatter(1, asked[:, :new], True)
        places = order.argsort(1).sub(done).clamp_min(0)
        return answer[torch.arange(len(code), device=code.device).unsqueeze(1), places]
