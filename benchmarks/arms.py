"""Arms of the comparisons of heads: factorizations crossed with distributions of a token, and their tuned settings."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import Cell

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "autoregressive": ("autoregressive", {}),
    "AR with queries": ("autoregressive", {"queries": True}),
    "next_frequency": ("next_frequency", {}),
    "masked_diffusion": ("masked_diffusion", {}),
    "independent": ("independent", {}),
}
"""Factorizations of tokens, with their settings."""
HEADS: dict[str, dict[str, Any]] = {
    "softmax": {"distribution": "categorical"},
    "soft targets": {"distribution": "categorical", "soft_targets": 1.0, "soft_width": 2.2},
    "ordinal": {"distribution": "ordinal", "expected_l1": 0.0},
    "ordinal + L1": {"distribution": "ordinal", "expected_l1": 0.1},
}
"""Distributions of a token, and what is added to the training loss."""
CONTINUOUS = ("gaussian_diffusion", "mip", "regression")
"""Families without tokens."""


@dataclass(frozen=True)
class Arm:
    """A factorization with a head; families without tokens have none."""

    family: str
    head: str = ""

    @property
    def name(self) -> str:
        """Both, as tables and the file of tuned settings have it."""
        return f"{self.family}, {self.head}" if self.head else self.family

    def cell(self, task: str, demos: int, seed: int, changes: dict[str, Any]) -> Cell:
        """Return the arm on a task, with changes to its training."""
        family, options = FAMILIES.get(self.family, (self.family, {}))
        head = {"head": HEADS[self.head] | changes.get("head", {})} if self.head else {}
        return Cell(task, demos, family, options, tokenizer="dct", seed=seed, training=changes | head)


def tuned(arm: Arm, path: Path | None) -> dict[str, Any]:
    """Return the settings that ``tune_families.py`` found best for an arm; none without its file."""
    return {} if path is None else dict(json.loads(path.read_text())[arm.name])


def spread(values: list[float], digits: int) -> str:
    """Return the mean of the seeds with the range, where there are several; empty without any.

    >>> spread([1.0, 2.0], 1), spread([1.0], 1), spread([], 1)
    ('1.5 (1.0-2.0)', '1.0', '')
    """
    if len(values) < 2:
        return "".join(f"{value:.{digits}f}" for value in values)
    return f"{sum(values) / len(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
