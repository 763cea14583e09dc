"""Rows of several episodes, one after the other: where each begins and ends, which to keep, windows in time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from anyorder.errors import DatasetError


@dataclass(frozen=True)
class Episodes:
    """Whole episodes, frame by frame."""

    columns: dict[str, Tensor]
    """Feature -> (frames, *shape)."""
    begins: Tensor
    """(frames,) int64: the first row of the frame's episode."""
    ends: Tensor
    """(frames,) int64: the row after the last one of the frame's episode."""

    @property
    def frames(self) -> int:
        """Return the number of frames."""
        return len(self.ends)

    @property
    def starts(self) -> Tensor:
        """Return the first row of every episode, (episodes,) int64."""
        return torch.unique_consecutive(self.begins)

    @property
    def lengths(self) -> Tensor:
        """Return the frames of every episode, (episodes,) int64."""
        return torch.unique_consecutive(self.ends) - self.starts

    @property
    def episode_ids(self) -> list[int]:
        """Return the dataset's numbers of the episodes held, in order."""
        return [int(episode) for episode in torch.unique_consecutive(self.columns["episode_index"])]

    @property
    def episodes(self) -> int:
        """Return the number of episodes."""
        return len(self.lengths)


@dataclass(frozen=True)
class Remedies:
    """What a command's settings can do about bad data; messages end with it.

    Attributes:
        leave_out: what leaves an episode out; ``{0}`` is its number.
        read_less: what reads fewer observations.
    """

    leave_out: str = "dataset.exclude_episodes=[{0}] leaves it out"
    read_less: str = "dataset.observations may name fewer features"


OWN = Remedies()
"""The remedies of commands with a ``dataset`` of ``anyorder.training.config.DatasetSettings``."""


@dataclass(frozen=True)
class EpisodeChoice:
    """Which episodes of a dataset to read.

    Attributes:
        episodes: how many (see ``choose_episodes``), or which ones; None for all.
        seed: of the choice, where ``episodes`` is a number.
        exclude: episodes to leave out, by number, before any are chosen.
        remedies: how whoever reads can choose others, for messages.
    """

    episodes: int | Sequence[int] | None = None
    seed: int = 0
    exclude: Sequence[int] = ()
    remedies: Remedies = OWN


ALL_EPISODES = EpisodeChoice()
"""The choice that reads every episode."""


def episode_borders(episode: Tensor) -> tuple[Tensor, Tensor]:
    """Return for every row its episode's first row and the row after its last one, both (rows,) int64.

    >>> [border.tolist() for border in episode_borders(torch.tensor([4, 4, 7, 7, 7]))]
    [[0, 0, 2, 2, 2], [2, 2, 5, 5, 5]]
    """
    _, member, lengths = torch.unique_consecutive(episode, return_inverse=True, return_counts=True)
    ends = lengths.cumsum(0)
    return (ends - lengths)[member], ends[member]


def window(rows: Tensor, offsets: Tensor, begins: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows at ``offsets`` from each row, held inside its episode, and where that changed them.

    Args:
        rows: (B,) int64.
        offsets: (n,) int64 frames, negative for the past.
        begins, ends: (frames,) int64, as ``episode_borders`` gives.

    Returns:
        Both (B, n): rows int64 and padding bool.
    """
    steps = rows[:, None] + offsets
    first, last = begins[rows][:, None], ends[rows][:, None] - 1
    return steps.clamp(first, last), (steps < first) | (steps > last)


def choose_episodes(held: list[int], episodes: int | Sequence[int], seed: int) -> list[int]:
    """Return the first n of a random order of the episodes ``held``, or exactly those listed.

    Raises:
        DatasetError: more, or other, episodes than are held.
    """
    if isinstance(episodes, int):
        if not 1 <= episodes <= len(held):
            raise DatasetError("dataset.episodes", episodes, f"1 ... {len(held)}, what the dataset has")
        return shuffled(held, seed)[:episodes]
    wrong = sorted(set(episodes) - set(held))
    if wrong or not episodes:
        allowed = f"a list out of the dataset's {len(held)} episodes, {held[0]} ... {held[-1]}"
        raise DatasetError("dataset.episodes", wrong, allowed)
    return list(episodes)


def split_episodes(held: list[int], validation_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split into (train, validation), at least one episode in each; a fraction of 0 holds none out.

    Raises:
        DatasetError: the fraction is not in [0, 1), or there is one episode only.
    """
    check_fraction(validation_fraction)
    if validation_fraction == 0:
        return list(held), []
    if len(held) < 2:
        allowed = "at least 2, to hold one out, or dataset.validation_fraction=0, which holds none out"
        raise DatasetError("dataset episodes", len(held), allowed)
    count = min(max(round(validation_fraction * len(held)), 1), len(held) - 1)
    order = shuffled(held, seed)
    return order[count:], order[:count]


def check_fraction(validation_fraction: float) -> None:
    """Raise a DatasetError unless it is a share that leaves something to learn from."""
    if not 0 <= validation_fraction < 1:
        raise DatasetError("validation_fraction", validation_fraction, "a number in [0, 1), 0 to hold none out")


def shuffled(held: list[int], seed: int) -> list[int]:
    """Return the episodes in a random order, the same for the same ``seed``."""
    return [held[i] for i in np.random.default_rng(seed).permutation(len(held))]


def tiles(starts: Tensor, lengths: Tensor, horizon: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Tile episodes with chunks so that each action is predicted exactly once.

    An offset o in 0 ... horizon - 1 is drawn for every episode; chunks start at o, o + horizon, ... and, if
    o > 0, one more at row 0. That first chunk holds its real actions, so that a tokenizer of whole chunks sees
    nothing unnatural, but only its first o count: the rest belongs to the chunk at o. The last chunk is padded as
    always.

    Args:
        starts: first row of every episode, (episodes,) int64.
        lengths: frames of every episode, (episodes,) int64.
        horizon: frames of a chunk.
        generator: of offsets and order.

    Returns:
        First row of every chunk, and how many of its actions count, both (chunks,) int64, in random order.
    """
    indices: list[int] = []
    counted: list[int] = []
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        offset = int(torch.randint(horizon, (), generator=generator))
        begins = [0] * (offset > 0) + list(range(offset, length, horizon))
        indices += [start + begin for begin in begins]
        counted += [offset or horizon] + [horizon] * (len(begins) - 1)
    order = torch.randperm(len(indices), generator=generator)
    return torch.tensor(indices)[order], torch.tensor(counted)[order]


def gather(values: Tensor, rows: Tensor) -> Tensor:
    """Return ``values`` (frames, *shape) at ``rows`` (B, n): (B, n, *shape)."""
    return values.index_select(0, rows.flatten()).view(*rows.shape, *values.shape[1:])
