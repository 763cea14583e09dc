"""Which factorization to train, on so many tokens and with so much compute, by laws that runs were fitted to.

Each family takes the parameters with the lowest loss at its compute, ``C = 6 N D``, and epochs follow as ``D /
U``; both stay within what the runs had, as laws tell little beyond, unless extrapolation is asked for. How sure
the choice is comes from the bootstrap: each resample of the runs has its own laws, which are asked the same
question. That is about noise in the runs; it cannot tell a right form of the law from a wrong one, so whatever
the question or its answer leaves the range of the runs is said, and refused where it is far outside.
"""

import itertools
import math
from collections.abc import Mapping
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
        families: what each can reach, the lowest expected loss first.
        crossings: by pair of families, the compute from which the order changes, E kept.
        protocol: of the losses, a key of ``anyorder.laws.facts.PROTOCOLS``, or None.
    """

    unique_tokens: float
    families: tuple[Outlook, ...]
    crossings: dict[tuple[str, str], Crossing]
    protocol: str | None

    @property
    def best(self) -> Outlook:
        """The family with the lowest expected loss."""
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
    lowest = np.argmin(np.stack(list(drawn.values())), axis=0)
    families = [
        _outlook(
            family,
            law,
            unique_tokens,
            each[family],
            held[family],
            laws.facts.exact.get(family),
            drawn[family],
            float((lowest == number).mean()),
        )
        for number, (family, law) in enumerate(laws.families.items())
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
    return Advice(unique_tokens, tuple(families), _crossings(laws, unique_tokens), laws.facts.protocol)


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
