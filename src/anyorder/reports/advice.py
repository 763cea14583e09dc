"""What advice says, in words and tables: which family to train, how sure that is, and what to mind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from anyorder.datasets.read.folder import DatasetInfo
from anyorder.laws.advise import DIGITS, LIKELY, NAMES, SURE, Advice, Outlook, outside, told
from anyorder.laws.pairs import Crossing
from anyorder.reports.text_tables import Table

OTHER = 1.5
"""Two sizes that differ by less than this factor are not told apart."""
PROTOCOL_LINES = {
    "final": "These laws are of losses at the end of a run whose learning rate falls over its whole length: set the "
    "run's length to these epochs. With early stopping losses are as low or lower, most so where a family overfits.",
    "best": "These laws are of the lowest validation loss along a run: validate as you train and keep the best "
    "checkpoint. The epochs are those of the whole run; the best moment may come before its end.",
    None: "laws.json does not say whether losses were taken at the end of runs or at their best moment "
    "(`anyorder fit protocol=final|best` does): the two differ a lot where a family overfits.",
}
"""Advice ends with one of these lines, by the protocol of the losses it rests on."""


def tokens_line(unique_tokens: float) -> str:
    """Say how many unique tokens there are.

    >>> tokens_line(27_000_000)
    'U = 27,000,000 unique tokens'
    """
    return f"U = {unique_tokens:,.0f} unique tokens"


def counted_line(
    unique_tokens: float, info: DatasetInfo, action_size: int, values_per_token: float, held_out: float
) -> str:
    """Say how the unique tokens of a dataset were counted."""
    minutes = info.total_frames / info.fps / 60
    return (
        f"{tokens_line(unique_tokens)}: {info.total_episodes} demonstrations, {minutes:.3g} minutes, {action_size} "
        f"action values a frame, {values_per_token:.3g} values a token, {held_out:.0%} held out"
    )


def compute_lines(flops: Mapping[str, float]) -> list[str]:
    """Say how much compute there is: once where it is the same for all families, else for each.

    >>> compute_lines({"ar": 1e12, "masked": 1e12}), compute_lines({"ar": 1e12, "masked": 2e12})
    (['C = 1e+12 FLOPs (6 N D)'], ['ar = 1e+12 FLOPs (6 N D)', 'masked = 2e+12 FLOPs (6 N D)'])
    """
    named = flops.items() if len(set(flops.values())) > 1 else [("C", next(iter(flops.values())))]
    return [f"{name} = {value:.3g} FLOPs (6 N D)" for name, value in named]


def table(advice: Advice) -> Table:
    """Return one row a family: the one to train, and then the others, the lowest expected loss first."""
    rows = [
        [
            o.family,
            told(o.nll),
            f"{told(o.interval[0])} to {told(o.interval[1])}",
            f"{o.probability:.2f}",
            f"{o.params:.3g}",
            f"{o.epochs:.3g}",
        ]
        for o in advice.families
    ]
    return Table(("family", "expected NLL", "95 % interval", "P(lowest)", "parameters", "epochs"), rows)


def headline(advice: Advice) -> str:
    """Say which family to train, and how sure that is."""
    first = advice.best
    plan = f"{first.params:.2g} parameters for {first.epochs:.3g} epochs"
    if len(advice.families) == 1:
        return f"{first.family}, the only family of these laws: {plan}."
    if len(advice.tied) > 1:
        return tie_line(advice, plan)
    second = advice.families[1]
    ahead = f"{second.nll - first.nll:.3g} nats ahead of {second.family}"
    how = "Train" if first.probability >= SURE else "Probably"
    return f"{how} {first.family}: {plan}, {ahead}, best in {first.probability:.0%} of resamples."


def tie_line(advice: Advice, plan: str) -> str:
    """Say which families tie, and which of them to train for what reason; ``plan`` is its."""
    tie = [o for o in advice.families if o.family in advice.tied]
    names = listed([o.family for o in tie])
    losses, shares = listed([told(o.nll) for o in tie]), listed([f"{o.probability:.0%}" for o in tie])
    if min(tie, key=lambda o: o.nll).probability < LIKELY:
        why = f"the runs do not decide between {names}"
    else:
        why = f"{names} differ by less than {DIGITS} digits tell"
    because = f"as {advice.reason}" if advice.reason else "or another of them, as none is cheaper"
    return (
        f"A tie: {why} ({losses} nats expected, lowest in {shares} of resamples). Take {advice.best.family}, "
        f"{because}: {plan}. More runs near here may decide."
    )


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> listed(["ar"]), listed(["ar", "masked"]), listed(["ar", "masked", "flow"])
    ('ar', 'ar and masked', 'ar, masked and flow')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def lines(advice: Advice) -> list[str]:
    """Return what to mind, a sentence or two each."""
    found = [line for outlook in advice.families for line in (warning(outlook), bound(outlook))]
    for outlook in advice.families:
        if outlook.flops < 0.9 * outlook.offered_flops:
            found.append(
                f"{outlook.family}: {outlook.flops:.2g} of the {outlook.offered_flops:.2g} FLOPs suffice; more "
                f"training would overfit."
            )
    found += [crossing_line(*item) for item in advice.crossings.items()]
    bounds = [outlook.family for outlook in advice.families if outlook.exact is False]
    if bounds and len(bounds) < len(advice.families):
        found.append(f"The loss of {', '.join(bounds)} is an upper bound; true ones may be lower.")
    return [line for line in [*found, PROTOCOL_LINES[advice.protocol]] if line]


def bound(outlook: Outlook) -> str:
    """Say where the law alone would take another size; empty where it would not."""
    if outside(outlook.free_params, outlook.params, outlook.params) <= OTHER:
        return ""
    (low, high), (_, most) = outlook.ranges["params"], outlook.ranges["epochs"]
    return (
        f"{outlook.family}: its law alone would take {outlook.free_params:.2g} parameters; {outlook.params:.2g} are "
        f"best within what the runs had: {low:.3g} to {high:.3g} parameters, up to {most:.4g} epochs."
    )


def warning(outlook: Outlook) -> str:
    """Say what lies outside the range of the runs; empty where nothing does."""
    told = []
    asked = {"unique_tokens": outlook.tokens / outlook.epochs, "flops": outlook.offered_flops}
    for name, factor in outlook.outside.items():
        value = asked.get(name, getattr(outlook, name, math.nan))
        low, high = outlook.ranges[name]
        told.append(f"{value:.3g} {NAMES[name]} ({factor:.2g}x outside {low:.3g} to {high:.3g})")
    return f"{outlook.family}: extrapolated beyond its runs: {', '.join(told)}" if told else ""


def crossing_line(families: tuple[str, str], crossing: Crossing) -> str:
    """Say from which compute on which of two families has the lower loss."""
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


def content(advice: Advice) -> dict[str, Any]:
    """Return what ``advise out=FILE.json`` writes."""
    return {
        "unique_tokens": advice.unique_tokens,
        "protocol": advice.protocol,
        "headline": headline(advice),
        "tied": list(advice.tied),
        "notes": lines(advice),
        "families": [asdict(o) for o in advice.families],
        "critical": [{"families": list(names), **asdict(crossing)} for names, crossing in advice.crossings.items()],
    }
