"""What fitted laws say, in words and tables: constants, what the runs cannot tell, and where two families cross."""

import math
from pathlib import Path

from anyorder.laws.intervals import WIDE, Interval
from anyorder.laws.law import CONSTANTS, LAWS
from anyorder.laws.laws import FittedLaw, FittedLaws
from anyorder.laws.laws_file import Sentences
from anyorder.laws.pairs import Pair
from anyorder.laws.runs import Runs
from anyorder.reports.text_tables import Table

DECAYS = {"R_D": "repeated tokens", "R_N": "excess parameters"}
"""These constants say how fast something decays; at infinity it does not decay."""
VANISHING = {"E": "an irreducible loss of 0", "O": "no overfitting"}
"""These constants may be 0, and this is what 0 means."""


def constant_table(laws: FittedLaws) -> Table:
    """Return one row a constant: its value, interval, and whether the runs tell it."""
    rows = []
    for family, law in laws.families.items():
        for name, value in zip(CONSTANTS, law.constants.tolist(), strict=True):
            if name in law.intervals:
                interval = law.intervals[name]
                ends = f"{interval.low:.4g} to {interval.high:.4g}"
                rows.append([family, name, f"{value:.4g}", ends, "yes" if interval.identified else "no"])
            elif name in laws.config.held() and name in LAWS[laws.config.law].free:
                rows.append([family, name, f"{value:.4g}", "held", "-"])
    return Table(("family", "constant", "value", "95 % interval", "identified"), rows)


def quality_table(laws: FittedLaws) -> Table:
    """Return one row a family: how well its law fits."""
    rows = [
        [family, str(law.runs), f"{law.objective:.7g}", f"{law.r2:.4f}", f"{law.r2_no_decay:.4f}"]
        for family, law in laws.families.items()
    ]
    return Table(("family", "runs", "objective", "R² on raw losses", "R² with no decay"), rows)


def held_out_table(laws: FittedLaws) -> Table:
    """Return one row a law that was tried; none where the law was given."""
    rows = [
        [score.law, f"{score.loss:.4g}", f"{100 * score.median:.2f}", "yes" if score.law == laws.config.law else ""]
        for score in laws.held_out
    ]
    return Table(("law", "mean Huber loss, held-out runs", "median relative error, %", "chosen"), rows)


def notes(laws: FittedLaws, runs: Runs) -> list[str]:
    """Return what to mind: constants that are not identified, and a law that does not suit the runs."""
    several = len(laws.families) > 1
    lines = [
        f"{family}: {note}" if several else note for family, law in laws.families.items() for note in family_notes(law)
    ]
    for family in runs.families if {"beta", "R_D"} <= set(laws.config.fitted()) else ():
        once = runs.of(family).single_epoch
        name = f"{family}: " if several else ""
        if once.all():
            lines.append(f"{name}no run repeats its data, so that nothing tells R_D.")
        elif not once.any():
            lines.append(f"{name}no run is of one epoch: what fresh data are worth rests on the law's form.")
    repeated = int((~runs.single_epoch).sum())
    if laws.config.law == "chinchilla" and repeated:
        lines.append(f"law=chinchilla counts repeated tokens as fresh, and {repeated} of {len(runs)} runs repeat.")
    return lines


def fitted_line(laws: FittedLaws, runs: Runs, source: Path) -> str:
    """Say what was fitted to which runs of which file."""
    config = laws.config
    return (
        f"{len(runs)} runs of {', '.join(runs.families)} from {source.name}; law {config.law}"
        f"{', in two steps' if config.two_step else ''}{', chosen by held-out runs' if laws.held_out else ''}."
    )


def headline(laws: FittedLaws) -> str:
    """Say in one sentence what was found: the crossing where there are families to compare, else the fit."""
    if laws.pairs:
        return pair_text(laws.pairs[0])
    family, law = next(iter(laws.families.items()))
    told = sum(interval.identified for interval in law.intervals.values())
    share = f"R² {law.r2:.3f}" if math.isfinite(law.r2) else "all losses are equal"
    count = f"{told} of {len(law.intervals)} constants identified"
    return f"{laws.config.law} fitted to {law.runs} runs of {family}: {share}, {count}."


def constant_note(constant: str, value: float, interval: Interval) -> str:
    """Say what the runs tell about a constant; empty where it is identified.

    >>> print(constant_note("R_N", 1.71, Interval(0.302, 25.1)))
    R_N is weakly identified: 1.71 fits best, but the 95 % interval is 0.302 to 25.1.
    """
    if interval.identified:
        return ""
    low = f"{'the edge of the search, ' if interval.open_low else ''}{interval.low:.3g}"
    high = f"{'the edge of the search, ' if interval.open_high else ''}{interval.high:.3g}"
    kind = "not" if interval.open_low and interval.open_high else "weakly"
    end = ""
    if interval.open_high and constant in DECAYS:
        end = f"; no decay of {DECAYS[constant]} at all is within it"
    if interval.open_low and constant in VANISHING:
        end = f"; {VANISHING[constant]} is within it"
    return f"{constant} is {kind} identified: {value:.3g} fits best, but the 95 % interval is {low} to {high}{end}."


def family_notes(law: FittedLaw) -> list[str]:
    """Say which constants of a family the runs cannot tell, a sentence each."""
    values = dict(zip(CONSTANTS, law.constants.tolist(), strict=True))
    found = [constant_note(name, values[name], interval) for name, interval in law.intervals.items()]
    return [line for line in found if line]


def pair_text(pair: Pair) -> str:
    """Say which of two families has the lower loss at which compute, in one or two sentences."""
    kind = "E kept" if pair.keep_e else "E dropped"
    name = f"{pair.families[0]} against {pair.families[1]} ({kind})"
    met = [point for point in pair.crossings if math.isfinite(point.flops)]
    if not met:
        reach = f"{pair.looked_at[0]:.1e} to {pair.looked_at[1]:.1e} FLOPs"
        share = max(point.share for point in pair.crossings)
        return (
            f"{name}: no crossing from {reach}, {pair.crossings[0].better_above} has the lower loss throughout; up "
            f"to {share:.0%} of resamples cross."
        )
    better = " or ".join(dict.fromkeys(point.better_above for point in met))
    sentence = f"{name}: above C_crit {better} has the lower loss"
    if len(met) < len(pair.crossings):
        sentence += f", with a crossing at {len(met)} of {len(pair.crossings)} values of U"
    if pair.line is None:
        point = met[0]
        where = f"C_crit = {point.flops:.2e} FLOPs at U = {point.unique_tokens:.3g} tokens"
        return f"{sentence}; {where}, no power law."
    s, c = pair.line.slope, pair.line.intercept
    low, high = pair.slope_interval
    known = f"slope 95 %: {low:.3g} to {high:.3g}" if math.isfinite(low) else "too few resamples cross"
    if not (low * high > 0 and max(low / high, high / low) <= WIDE):
        flops = [point.flops for point in met]
        where = f"C_crit is {min(flops):.2e} to {max(flops):.2e} FLOPs"
        return f"{sentence}; {where}, and no power law of U is identified ({known})."
    return f"{sentence}; log10 U = {s:.3f} log10 C {c:+.3f} ({known}), U in tokens, C in FLOPs."


def sentences(laws: FittedLaws) -> Sentences:
    """Return all that ``laws.json`` says in words."""
    notes = {family: family_notes(law) for family, law in laws.families.items()}
    return Sentences(notes, [pair_text(pair) for pair in laws.pairs])
