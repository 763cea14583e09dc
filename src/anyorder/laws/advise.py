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
from anyorder.laws.laws_file import ReadLaw, ReadLaws
from anyorder.laws.pairs import Crossing, meet, scan

FAR = 10.0
"""Factor outside the runs' range from which there is no answer unless it is asked for."""
NEAR = 1.05
"""Factor up to which a value counts as within: batches round tokens."""
OTHER = 1.5
"""Factor from which two sizes are told apart."""
SURE, LIKELY = 0.95, 0.75
NAMES = {
    "unique_tokens": "unique tokens",
    "flops": "FLOPs",
    "params": "parameters",
    "tokens": "tokens seen",
    "epochs": "epochs",
}
ADVICE = {
    "final": "These laws are of losses at the end of a run whose learning rate falls over its whole length: set the "
    "run's length to these epochs. With early stopping losses are as low or lower, most so where a family overfits.",
    "best": "These laws are of the lowest validation loss along a run: validate as you train and keep the best "
    "checkpoint. The epochs are those of the whole run; the best moment may come before its end.",
    None: "laws.json does not say whether losses were taken at the end of runs or at their best moment "
    "(`anyorder fit protocol=final|best` does): the two differ a lot where a family overfits.",
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

    def bound(self) -> str:
        """Say where the law alone would take another size; empty where it would not."""
        if outside(self.free_params, self.params, self.params) <= OTHER:
            return ""
        (low, high), (_, most) = self.ranges["params"], self.ranges["epochs"]
        return (
            f"{self.family}: its law alone would take {self.free_params:.2g} parameters; {self.params:.2g} are best "
            f"within what the runs had: {low:.3g} to {high:.3g} parameters, up to {most:.4g} epochs."
        )

    def warning(self) -> str:
        """Say what lies outside the range of the runs; empty where nothing does."""
        told = []
        asked = {"unique_tokens": self.tokens / self.epochs, "flops": self.offered_flops}
        for name, factor in self.outside.items():
            value = asked.get(name, getattr(self, name, math.nan))
            low, high = self.ranges[name]
            told.append(f"{value:.3g} {NAMES[name]} ({factor:.2g}x outside {low:.3g} to {high:.3g})")
        return f"{self.family}: extrapolated beyond its runs: {', '.join(told)}" if told else ""


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

    def headline(self) -> str:
        """Say which family to train, and how sure that is."""
        first = self.best
        plan = f"{first.params:.2g} parameters for {first.epochs:.3g} epochs"
        if len(self.families) == 1:
            return f"{first.family}, the only family of these laws: {plan}."
        second = self.families[1]
        ahead = f"{second.nll - first.nll:.3g} nats ahead of {second.family}"
        if first.probability >= SURE:
            return f"Train {first.family}: {plan}, {ahead}, best in {first.probability:.0%} of resamples."
        if first.probability >= LIKELY:
            return f"Probably {first.family}: {plan}, {ahead}, best in {first.probability:.0%} of resamples."
        return (
            f"The runs do not decide: {first.family} is {ahead}, yet best in {first.probability:.0%} of resamples "
            f"only ({plan}). Take either, or add runs near here."
        )

    def lines(self) -> list[str]:
        """Return what to mind, a sentence or two each."""
        found = [line for outlook in self.families for line in (outlook.warning(), outlook.bound())]
        for outlook in self.families:
            if outlook.flops < 0.9 * outlook.offered_flops:
                found.append(
                    f"{outlook.family}: {outlook.flops:.2g} of the {outlook.offered_flops:.2g} FLOPs suffice; more "
                    f"training would overfit."
                )
        found += [self._crossing(*item) for item in self.crossings.items()]
        bounds = [outlook.family for outlook in self.families if outlook.exact is False]
        if bounds and len(bounds) < len(self.families):
            found.append(f"The loss of {', '.join(bounds)} is an upper bound; true ones may be lower.")
        return [line for line in [*found, ADVICE[self.protocol]] if line]

    def _crossing(self, families: tuple[str, str], crossing: Crossing) -> str:
        pair = f"{families[0]} and {families[1]}, at sizes of any kind"
        if not math.isfinite(crossing.flops):
            return (
                f"{pair}: no critical compute at this U, {crossing.better_above} has the lower loss throughout; "
                f"{crossing.share:.0%} of resamples cross."
            )
        low, high = crossing.interval
        known = f"95 %: {low:.2g} to {high:.2g}" if math.isfinite(low) else "in few resamples"
        return (
            f"{pair}: from C_crit = {crossing.flops:.2g} FLOPs on ({known}) {crossing.better_above} has the lower "
            f"loss at this U."
        )


def advise(
    laws: ReadLaws, unique_tokens: float, flops: float | Mapping[str, float], extrapolate: bool = False
) -> Advice:
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
    for name, value in (
        ("unique_tokens", unique_tokens),
        *((f"flops of {f}", each[f]) for f in laws.families),
    ):
        if not (math.isfinite(value) and value > 0):
            raise UserError(name, value, "a finite number above 0")
    count = min(len(law.samples) for law in laws.families.values())
    held = {
        family: None if extrapolate else _within(law, unique_tokens) for family, law in laws.families.items()
    }
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
        raise UserError(f"{name} of {worst.family}", f"{factor:.2g}x outside", allowed)
    families.sort(key=lambda outlook: outlook.nll)
    return Advice(unique_tokens, tuple(families), _crossings(laws, unique_tokens), laws.facts.protocol)


def _within(law: ReadLaw, unique_tokens: float) -> Within:
    """Return sizes and tokens that the runs had: tokens seen, and epochs."""
    (least, most), epochs = law.ranges["tokens"], law.ranges["epochs"]
    low, high = max(least, epochs[0] * unique_tokens), min(most, epochs[1] * unique_tokens)
    return Within(law.ranges["params"], (low, high) if low <= high else (least, most))


def _outlook(
    family: str,
    law: ReadLaw,
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


def _crossings(laws: ReadLaws, unique_tokens: float) -> dict[tuple[str, str], Crossing]:
    ends = [law.ranges["flops"] for law in laws.families.values()]
    best = {family: law.constants for family, law in laws.families.items()}
    samples = {family: law.samples for family, law in laws.families.items()}
    flops = (min(low for low, _ in ends), max(high for _, high in ends))
    scans = scan(best, samples, np.array([unique_tokens]), flops)
    return {names: meet(names, True, scans)[0][0] for names in itertools.combinations(laws.families, 2)}
