"""Which factorization to train, on so many tokens and with so much compute, by laws that runs were fitted to.

Each family takes the parameters with the lowest loss at its compute, ``C = 6 N D``, and epochs follow as ``D /
U``; both stay within what the runs had, as laws tell little beyond, unless extrapolation is asked for. How sure
the choice is comes from the bootstrap: each resample of the runs has its own laws, which are asked the same
question. That is about noise in the runs; it cannot tell a right form of the law from a wrong one, so whatever
the question or its answer leaves the range of the runs is said, and refused where it is far outside.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anyorder.errors import UserError
from anyorder.laws.critical import Within, best_up_to
from anyorder.laws.intervals import percentiles
from anyorder.laws.law import FLOPS_PER_PARAM_TOKEN
from anyorder.laws.laws import FamilyLaw, Laws
from anyorder.laws.pairs import Crossing, meet, scan

FAR = 10.0
"""A value further outside the runs' range than this factor gets no answer, unless extrapolation is asked for."""
NEAR = 1.05
"""A value outside by less than this factor counts as within, as batches round tokens."""
SURE, LIKELY = 0.95, 0.75
"""The family with the lowest loss is sure, or likely, where at least these shares of the resamples agree."""
DIGITS = 4
"""Losses are told to so many digits; those that are equal then are a tie."""
NAMES = {
    "unique_tokens": "unique tokens",
    "flops": "FLOPs",
    "params": "parameters",
    "tokens": "tokens seen",
    "epochs": "epochs",
}


@dataclass(frozen=True)
class Outlook:
    """What a family can reach.

    Attributes:
        family: its name.
        nll: expected loss, nats per token.
        interval: 95 % of it over the resamples.
        probability: share of the resamples in which no family has a lower loss.
        params: N to train.
        tokens: D to see.
        epochs: D / U.
        flops: 6 N D; less than was offered where more training would harm.
        offered_flops: what was offered.
        exact: whether the loss is the likelihood, or an upper bound; None where it is not known.
        outside: by name, how many times beyond the runs' range a quantity lies; those within are left out.
        ranges: smallest and largest among the runs.
        free_params: N that the law would take if it were not held within them.
    """

    family: str
    nll: float
    interval: tuple[float, float]
    probability: float
    params: float
    tokens: float
    epochs: float
    flops: float
    offered_flops: float
    exact: bool | None
    outside: dict[str, float]
    ranges: dict[str, tuple[float, float]]
    free_params: float


@dataclass(frozen=True)
class Advice:
    """An answer.

    Attributes:
        unique_tokens: U.
        families: what each can reach: the one to train, and then the others, the lowest expected loss first.
        tied: names of those that may each be the best one, the one to train among them; it is alone where it leads.
        reason: why it is taken out of several that tie; empty where none is cheaper, or it leads.
        crossings: by pair of families, the compute from which the order changes, E kept.
        protocol: of the losses, a key of ``anyorder.laws.facts.PROTOCOLS``, or None.
    """

    unique_tokens: float
    families: tuple[Outlook, ...]
    tied: tuple[str, ...]
    reason: str
    crossings: dict[tuple[str, str], Crossing]
    protocol: str | None

    @property
    def best(self) -> Outlook:
        """The family to train: that with the lowest expected loss, or the cheapest of those that tie with it."""
        return self.families[0]


def advise(laws: Laws, unique_tokens: float, flops: float | Mapping[str, float], extrapolate: bool = False) -> Advice:
    """Say which family to train.

    Args:
        laws: of any set of families, as ``read_laws`` gives them.
        unique_tokens: U, in the tokens the laws were fitted in.
        flops: C = 6 N D, for all families or for each.
        extrapolate: answer far outside the range of the runs, too, with sizes and epochs that may be.

    Raises:
        UserError: an impossible number, or the answer is far outside and ``extrapolate`` was not given.
    """
    each = dict(flops) if isinstance(flops, Mapping) else dict.fromkeys(laws.families, flops)
    for name, value in (("unique_tokens", unique_tokens), *((f"flops of {f}", each[f]) for f in laws.families)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(name, value, "a finite number above 0")
    count = min(len(law.samples) for law in laws.families.values())
    held = {family: None if extrapolate else _within(law, unique_tokens) for family, law in laws.families.items()}
    drawn = {
        family: best_up_to(law.samples[:count], each[family], unique_tokens, held[family])[0]
        for family, law in laws.families.items()
    }
    lowest = np.min(np.stack(list(drawn.values())), axis=0)
    families = [
        _outlook(
            family,
            law,
            unique_tokens,
            each[family],
            held[family],
            laws.facts.exact.get(family),
            drawn[family],
            float((drawn[family] == lowest).mean()),
        )
        for family, law in laws.families.items()
    ]
    far = [(factor, name, o) for o in families for name, factor in o.outside.items() if factor > FAR]
    if far and not extrapolate:
        factor, name, worst = max(far, key=lambda item: item[0])
        low, high = worst.ranges[name]
        allowed = (
            f"at most {FAR:g}x outside the runs' {low:.3g} to {high:.3g} {NAMES[name]}; extrapolate=true answers "
            f"all the same, at any size"
        )
        given = {"unique_tokens": unique_tokens, "flops": worst.offered_flops}.get(name)
        raise UserError(f"{name} of {worst.family}", given or f"{factor:.2g}x outside", allowed)
    families.sort(key=lambda outlook: outlook.nll)
    tie = tied(families)
    best, reason = cheapest(tie)
    families.sort(key=lambda outlook: outlook is not best)
    names = tuple(o.family for o in families if o in tie)
    return Advice(unique_tokens, tuple(families), names, reason, _crossings(laws, unique_tokens), laws.facts.protocol)


def told(nll: float) -> str:
    """Return a loss as it is told.

    >>> told(1.23449), told(1.23451)
    ('1.234', '1.235')
    """
    return f"{nll:.{DIGITS}g}"


def tied(families: Sequence[Outlook]) -> list[Outlook]:
    """Return those that may each be the best, out of ``families`` sorted by loss: the first alone where it leads.

    Losses that are told alike tie. Where the resamples do not make the first likely, so do the fewest families that
    are the best ones in the share ``SURE`` of them.
    """
    first = families[0]
    found = [o.family for o in families if told(o.nll) == told(first.nll)]
    if first.probability < LIKELY:
        share = 0.0
        for o in sorted(families, key=lambda o: -o.probability):
            if share < SURE:
                found.append(o.family)
            share += o.probability
    return [o for o in families if o.family in found]


COSTS: dict[str, Callable[[Outlook], float]] = {
    "it needs the least compute": lambda o: o.flops / o.offered_flops,
    "it has the fewest parameters": lambda o: o.params,
}
"""These costs decide a tie, the first one that differs; the key is the reason."""


def cheapest(tie: Sequence[Outlook]) -> tuple[Outlook, str]:
    """Return the cheapest of families that tie, and why it is; the first one and no reason where none is cheaper."""
    for reason, cost in COSTS.items():
        cheap = [o for o in tie if cost(o) <= NEAR * min(map(cost, tie))]
        if len(cheap) < len(tie):
            return cheap[0], reason if len(cheap) == 1 else f"{reason} with {cheap[1].family}"
    return tie[0], ""


def _within(law: FamilyLaw, unique_tokens: float) -> Within:
    """Return sizes and tokens that the runs had: tokens seen, and epochs."""
    (least, most), epochs = law.ranges["tokens"], law.ranges["epochs"]
    low, high = max(least, epochs[0] * unique_tokens), min(most, epochs[1] * unique_tokens)
    return Within(law.ranges["params"], (low, high) if low <= high else (least, most))


def _outlook(
    family: str,
    law: FamilyLaw,
    unique_tokens: float,
    flops: float,
    held: Within | None,
    exact: bool | None,
    drawn: np.ndarray,
    probability: float,
) -> Outlook:
    nll, params, used = (float(value) for value in best_up_to(law.constants, flops, unique_tokens, held))
    free_params = float(best_up_to(law.constants, flops, unique_tokens)[1]) if held else params
    tokens = used / FLOPS_PER_PARAM_TOKEN / params
    values = {
        "unique_tokens": unique_tokens,
        "flops": flops,
        "params": params,
        "tokens": tokens,
        "epochs": tokens / unique_tokens,
    }
    beyond = {name: outside(value, *law.ranges[name]) for name, value in values.items()}
    low, high = percentiles(drawn).tolist()
    return Outlook(
        family=family,
        nll=nll,
        interval=(low, high),
        probability=probability,
        params=params,
        tokens=tokens,
        epochs=tokens / unique_tokens,
        flops=used,
        offered_flops=flops,
        exact=exact,
        outside={name: factor for name, factor in beyond.items() if factor > NEAR},
        ranges=law.ranges,
        free_params=free_params,
    )


def outside(value: float, low: float, high: float) -> float:
    """Return how many times beyond a range a value lies, 1 inside.

    >>> outside(5.0, 1.0, 10.0), outside(50.0, 1.0, 10.0), outside(0.25, 1.0, 10.0)
    (1.0, 5.0, 4.0)
    """
    return max(1.0, value / high, low / value)


def _crossings(laws: Laws, unique_tokens: float) -> dict[tuple[str, str], Crossing]:
    ends = [law.ranges["flops"] for law in laws.families.values()]
    best = {family: law.constants for family, law in laws.families.items()}
    samples = {family: law.samples for family, law in laws.families.items()}
    flops = (min(low for low, _ in ends), max(high for _, high in ends))
    scans = scan(best, samples, np.array([unique_tokens]), flops)
    return {names: meet(names, True, scans)[0][0] for names in itertools.combinations(laws.families, 2)}
