"""What the numbers allow to be said: the headline, and what to mind when comparing these runs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from anyorder.reports.rollouts import Rollouts
from anyorder.reports.runs import RunSummary
from anyorder.reports.table import percent, with_error

MACHINE = ("cache_gb", "workers")
"""These settings of a dataset say how a machine holds it, not what a run learns from."""
NAMED = 3
"""A sentence names at most this many runs, and counts them where there are more."""


def headline(runs: Sequence[RunSummary]) -> str:
    """Say which run succeeds most often, and whether the intervals allow to call it better."""
    shown = [(run, run.rollouts) for run in runs if run.rollouts is not None]
    if not shown:
        return "No rollouts yet, so there is no success rate to compare."
    if len(shown) == 1:
        alone = "" if len(runs) == 1 else "; no other run has rollouts"
        return f"{shown[0][0].label} succeeded in {_counted(shown[0][1])}{alone}."
    if _differs([run for run, _ in shown], environment):
        return "No comparison: the runs were rolled out in different environments."
    best_rate = max(rollouts.rate for _, rollouts in shown)
    tops = [(run, rollouts) for run, rollouts in shown if rollouts.rate == best_rate]
    top, best = tops[0]
    rest = [(run, rollouts) for run, rollouts in shown if rollouts.rate < best_rate]
    if len(tops) == len(shown):
        return f"No winner: all {len(shown)} runs have the same success rate, {percent(best_rate)} %."
    overlapping = [run.label for run, rollouts in rest if rollouts.overlaps(best)]
    apart = [run.label for run, rollouts in rest if not rollouts.overlaps(best)]
    if len(tops) > 1:
        names = listed([run.label for run, _ in tops])
        return f"No winner: {names} share the highest success rate, {percent(best_rate)} %."
    if not overlapping:
        others = f"the interval of {apart[0]}" if len(apart) == 1 else f"those of all {len(apart)} others"
        return f"{top.label} succeeds most often, in {_counted(best)}; its 95 % interval lies entirely above {others}."
    return (
        f"No winner: {top.label} has the highest observed success rate, {_counted(best)}, but its interval "
        f"overlaps {'that' if len(overlapping) == 1 else 'those'} of {listed(overlapping)}{_below(apart)}."
    )


def likelihood_line(runs: Sequence[RunSummary]) -> str:
    """Say which validation NLL is lowest and what a bound does not show; empty where none compare."""
    shown = [
        (run, run.final, run.final.nll_nats_per_value)
        for run in runs
        if run.final is not None and run.final.nll_nats_per_value is not None
    ]
    shown = [found for found in shown if math.isfinite(found[2])]
    if len(shown) < 2 or _differs([run for run, _, _ in shown], likelihood_setting):
        return ""
    run, score, value = min(shown, key=lambda found: found[2])
    written = with_error(value, score.standard_error_nats_per_value)
    kind = "exact" if run.exact else "an upper bound"
    sentence = f"Lowest validation NLL: {run.label} with {written} nats per action value ({kind}; ± standard error)."
    bounded = [other.label for other, _, _ in shown if other.exact is False and other is not run]
    if bounded:
        sentence += f" Of {listed(bounded)} only an upper bound is known: the true NLL may be lower."
    return sentence


def cautions(runs: Sequence[RunSummary]) -> list[str]:
    """Return what makes these runs differ in more than their factorization, or weakens their numbers."""
    notes = []
    for run in runs:
        if not run.finished:
            planned = int(run.settings.get("steps", 0))
            notes.append(f"{run.label} has taken {run.steps:,} of {planned:,} steps.")
        if run.final is not None and run.final.step < run.steps:
            notes.append(f"{run.label} was last validated at step {run.final.step:,} of {run.steps:,}.")
    checks: list[tuple[str, Callable[[RunSummary], Any], Sequence[RunSummary]]] = [
        ("datasets or splits: their losses are over different demonstrations", dataset_setting, runs),
        ("sizes of network", network_size, runs),
        ("regularisation (dropout, noise, weight decay)", regularization, runs),
        ("numbers of steps or batch sizes", lambda r: (r.settings.get("steps"), r.settings.get("batch_size")), runs),
        (
            "tokenizers or chunk sizes: their NLLs are of different tokens and do not compare",
            lambda run: (run.settings.get("tokenizer"), run.settings.get("chunk_size")),
            [run for run in runs if run.exact is not None],
        ),
        (
            "rollouts (environment, first seed, number of episodes, or during training)",
            lambda run: run.rollouts and (run.rollouts.settings, run.rollouts.episodes, run.rollouts.during_training),
            [run for run in runs if run.rollouts is not None],
        ),
    ]
    notes += [f"The runs have different {what}." for what, setting, who in checks if _differs(who, setting)]
    if any(run.rollouts is not None and run.rollouts.during_training for run in runs):
        notes.append("Success marked * was measured by the training loop at its last rollout.")
    timed = [run.rollouts for run in runs if run.rollouts and run.rollouts.chunk_latency_ms is not None]
    if any(rollouts.latency_batch is None for rollouts in timed):
        notes.append("Latency is of a policy call that serves a whole batch of episodes, whose size was not recorded.")
    return notes


def dataset_setting(run: RunSummary) -> Any:
    """Return what decides which demonstrations a run learns from and is scored on."""
    found = run.settings.get("dataset")
    # How frames are held in memory changes nothing.
    return {k: v for k, v in found.items() if k not in MACHINE} if isinstance(found, dict) else found


def network_size(run: RunSummary) -> Any:
    """Return the settings of the trunk that decide how many parameters it has."""
    network = run.settings.get("network") or {}
    return {name: value for name, value in network.items() if not name.endswith("dropout")}


def regularization(run: RunSummary) -> Any:
    """Return what keeps a run from learning its data by heart."""
    network, optimizer = (run.settings.get(name) or {} for name in ("network", "optimizer"))
    dropout = {name: value for name, value in network.items() if name.endswith("dropout")}
    noise = [run.settings.get(name) for name in ("observation_noise", "context_dropout")]
    return dropout, noise, optimizer.get("weight_decay")


def likelihood_setting(run: RunSummary) -> Any:
    """Return what must be equal for two NLLs to be of the same tokens."""
    return (dataset_setting(run), run.settings.get("tokenizer"), run.settings.get("chunk_size"))


def environment(run: RunSummary) -> Any:
    """Return what a run was rolled out in: the environment's name and settings, None where that is not recorded."""
    found = run.rollouts.settings if run.rollouts is not None else {}
    return found.get("env")


def _differs(runs: Sequence[RunSummary], setting: Callable[[RunSummary], Any]) -> bool:
    return any(setting(run) != setting(runs[0]) for run in runs[1:])


def _counted(rollouts: Rollouts) -> str:
    low, high = map(percent, rollouts.interval)
    return (
        f"{rollouts.successes} of {rollouts.episodes} episodes "
        f"({percent(rollouts.rate)} %, 95 % interval {low} to {high} %)"
    )


def listed(names: Sequence[str]) -> str:
    """Join names; a long list becomes its length, as the table has the names."""
    if len(names) > NAMED:
        return f"{len(names)} runs"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _below(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"; only {listed(names)} {'lies' if len(names) == 1 else 'lie'} clearly below"
