"""Settings of several runs side by side: what differs, then what is common."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from anyorder.reports.runs import RunSummary

ABSENT = "-"
# These change nothing about what is learnt.
LEFT_OUT = ("output_dir", "resume", "progress", "wandb", "keep_checkpoints", "log_freq", "save_freq")


@dataclass(frozen=True)
class SettingsDiff:
    """``differing``: (name, one value per run); ``common``: (name, value). Values are written out."""

    differing: list[tuple[str, list[str]]]
    common: list[tuple[str, str]]


def compare_settings(runs: Sequence[RunSummary]) -> SettingsDiff:
    """Sort the settings of runs into those that differ and those all share.

    A setting that a run does not have is ``-`` there; a continuous family does not use the tokenizer, so its
    tokenizer settings count as absent and do not make a difference.
    """
    flat = [flatten(_used(run)) for run in runs]
    differing, common = [], []
    for name in dict.fromkeys(name for settings in flat for name in settings):
        values = [written(settings[name]) if name in settings else ABSENT for settings in flat]
        unused = name.startswith("tokenizer.")
        bearing = [value for value, run in zip(values, runs, strict=True) if run.exact is not None or not unused]
        if len(set(bearing)) > 1:
            differing.append((name, values))
        else:
            common.append((name, bearing[0]))
    return SettingsDiff(differing, common)


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names.

    >>> flatten({"optimizer": {"lr": 0.1}, "steps": 5})
    {'optimizer.lr': 0.1, 'steps': 5}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def written(value: Any) -> str:
    """Write a setting as it would be given on the command line.

    >>> written(None), written([0.9, 0.95]), written("fast")
    ('null', '[0.9, 0.95]', 'fast')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _used(run: RunSummary) -> dict[str, Any]:
    kept = {key: value for key, value in run.settings.items() if key not in LEFT_OUT}
    if run.exact is None:
        kept.pop("tokenizer", None)
    return kept
