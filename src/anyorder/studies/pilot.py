"""A pilot: the small study of a user's own data that fits a time budget, planned before it is run.

Every family gets the same cells, (width, unique tokens, epochs). The one dial is ``max_flops``: a cell is run if its
6 N D is at most that, so a longer pilot does all that a shorter one does, and more expensive runs besides.
"""

import heapq
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.laws.config import SPARE_RUNS
from anyorder.laws.law import LAWS
from anyorder.studies.config import (
    LEAST_HELD_OUT,
    EvaluationConfig,
    GridConfig,
    StudyConfig,
    StudyDataset,
    check_episodes,
)
from anyorder.studies.grid import Member

FAMILIES = {"ar": "autoregressive", "masked": "masked_diffusion"}
DROPOUT = {"ar": [0.0, 0.2], "masked": [0.0]}
"""Each family is trained with these dropouts; one above 0 makes a variant of its own: ``ar dropout=0.2``."""
WIDTHS = [16, 32, 64, 128]
EPOCHS = [1, 4, 16, 64, 256]
SHARES = [1 / 16, 1 / 4, 1.0]
"""Runs learn from these shares of the tokens that the training episodes have."""
LEAST_TOKENS = 500
"""A level of fewer unique tokens is left out, as long as two are left."""
EVALUATION = EvaluationConfig(draws=2, test_chunks=128, test_draws=2)
TEST_FRACTION = 0.05
LEAST_RUNS = max(len(law.free) for law in LAWS.values()) + SPARE_RUNS
"""Each variant needs this many runs, so that all laws can be compared."""
CALIBRATION = 0.04
"""The runs that measure the machine may take this share of the budget."""
MARGIN = 0.1
"""A plan leaves this share of the time that is left unused."""


def study_config(root: str, episodes: int, validation_fraction: float) -> StudyConfig:
    """Return the study of the dataset in ``root``, its grids still empty: they follow from the tokens it has.

    ``validation_fraction`` of its episodes, two at least, choose the best moment of a run.

    Raises:
        ConfigError: too few episodes, or so large a share that too little is left.
    """
    check_episodes(episodes)
    if not validation_fraction < 0.5:
        raise ConfigError("validation_fraction", validation_fraction, "below 0.5 with pilot=...")
    least = LEAST_HELD_OUT / episodes
    held_out = StudyDataset(
        root, validation_fraction=max(validation_fraction, least), test_fraction=max(TEST_FRACTION, least)
    )
    families = {name: FactorizationConfig.named(kind) for name, kind in FAMILIES.items()}
    return StudyConfig(dataset=held_out, families=families, evaluation=EVALUATION, keep_weights="none")


def levels(tokens: float) -> list[int]:
    """Return the unique tokens to learn from, out of so many: two levels at least.

    >>> levels(16_000), levels(4_000), levels(100)
    ([1000, 4000, 16000], [1000, 4000], [25, 100])
    """
    found = [int(tokens * share) for share in SHARES]
    large = [level for level in found if level >= LEAST_TOKENS]
    return large if len(large) > 1 else found[-2:]


def grids(tokens: float, max_flops: float | None = None) -> dict[str, GridConfig]:
    """Return a grid for each family, with the same cells, of a training split of so many tokens."""
    return {
        name: GridConfig([name], WIDTHS, levels(tokens), EPOCHS, dropout=DROPOUT[name], max_flops=max_flops)
        for name in FAMILIES
    }


def cells(members: Sequence[Member]) -> list[list[Member]]:
    """Return the runs by width, unique tokens and epochs, the cheapest cell first."""
    found: dict[tuple[int, float, int], list[Member]] = {}
    for m in members:
        found.setdefault((m.width, m.unique_tokens, m.settings.epochs), []).append(m)
    return sorted(found.values(), key=most_flops)


def most_flops(cell: Sequence[Member]) -> float:
    """Return the FLOPs of the most expensive run."""
    return max(m.flops for m in cell)


def within(members: Sequence[Member], max_flops: float) -> list[Member]:
    """Return the runs of all cells of at most ``max_flops``, the cheapest cell first."""
    return [m for cell in cells(members) if most_flops(cell) <= max_flops for m in cell]


def makespan(seconds: Sequence[float], workers: int) -> float:
    """Return how long runs take that are begun in this order, each by the first of the workers that is free.

    >>> makespan([1.0, 1.0, 1.0, 5.0], workers=2)
    6.0
    """
    free = [0.0] * workers
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def largest(members: Sequence[Member], seconds: float, workers: int, done: Collection[str] = frozenset()) -> float:
    """Return the largest ``max_flops`` whose runs take no longer than ``seconds``; 0 where none does.

    ``members`` are of the whole grid, ``workers`` of them go on at once, and those ``done`` take no time any more.
    """
    found = 0.0
    for limit in map(most_flops, cells(members)):
        costs = [m.estimated_s for m in within(members, limit) if m.id not in done]
        if makespan(costs, workers) > seconds:
            break
        found = limit
    return found


def cheapest(members: Sequence[Member], failed: Collection[str] = frozenset()) -> list[Member]:
    """Return the runs of the cheapest plan that laws can be fitted to, without cells in which a run failed."""
    whole = [cell for cell in cells(members) if not any(m.id in failed for m in cell)]
    return [m for cell in whole[:LEAST_RUNS] for m in cell]


def least_seconds(
    members: Sequence[Member], workers: int, done: Collection[str] = frozenset(), failed: Collection[str] = frozenset()
) -> float:
    """Return how long the ``cheapest`` plan takes."""
    return makespan([m.estimated_s for m in cheapest(members, failed) if m.id not in done], workers)


def calibration(members: Sequence[Member], seconds: float, workers: int) -> list[Member]:
    """Return the runs that measure the machine: the cheapest cell, and the most expensive one that fits besides."""
    first, *others = cells(members)
    fitting = [cell for cell in others if makespan([m.estimated_s for m in [*first, *cell]], workers) <= seconds]
    return [*first, *(fitting[-1] if fitting else [])]


def corrected(members: Sequence[Member], took: Mapping[str, float]) -> list[Member]:
    """Return the runs with ``estimated_s`` as this machine is, by the seconds that runs which are done ``took``, by id.

    Before, ``estimated_s`` may have any scale that is the same for a family's runs. A family of which none is done
    takes what all of them tell.
    """

    def slower(family: str | None) -> float | None:
        done = [m for m in members if m.id in took and family in (None, m.family)]
        return sum(took[m.id] for m in done) / sum(m.estimated_s for m in done) if done else None

    overall = slower(None) or 1.0
    factors = {family: slower(family) or overall for family in {m.family for m in members}}
    return [replace(m, estimated_s=m.estimated_s * factors[m.family]) for m in members]
