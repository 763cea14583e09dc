"""Opt-in: LeRobot's datasets give whole batches from memory, and its sampler resumes where it was.

``ANYORDER_FAST_LOADING=1 lerobot-train ...`` turns it on. LeRobot's command has no hook for a dataset or a loader, but
torch asks a dataset for ``__getitems__`` first, so a method added to ``LeRobotDataset`` is enough. Loader processes
started by "spawn" (LeRobot's default) do not load plugins and stay slow: use ``--num_workers=0``.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset
from torch import Tensor

from anyorder.datasets.read.episodes import episode_borders, gather, window
from anyorder.errors import ConfigError

SWITCH = "ANYORDER_FAST_LOADING"

_iter_epoch = EpisodeAwareSampler._iter_epoch
_NUMBERS = ("float", "int", "uint", "bool")
_held: "WeakKeyDictionary[LeRobotDataset, Columns | None]" = WeakKeyDictionary()


def install_if_asked(environment: Mapping[str, str] = os.environ) -> None:
    """Install what the environment variable asks for.

    Raises:
        ConfigError: it is neither 0 nor 1.
    """
    asked = environment.get(SWITCH, "") or "0"
    if asked not in ("0", "1"):
        raise ConfigError(SWITCH, asked, "0 or 1")
    if asked == "1":
        install()


def install() -> None:
    """Give LeRobot's datasets ``__getitems__`` and let its sampler resume where it was."""
    LeRobotDataset.__getitems__ = items
    EpisodeAwareSampler.load_state_dict = load_state_dict
    EpisodeAwareSampler.set_epoch = set_epoch
    EpisodeAwareSampler._iter_epoch = iter_epoch


def load_state_dict(sampler: EpisodeAwareSampler, state: dict[str, int]) -> None:
    """Restore LeRobot's sampler, and remember its epoch (see ``set_epoch``) and torch's generator.

    ``lerobot-train`` has restored the generator when it comes here. Its loader, new in this process, then draws a seed
    that an undisturbed run draws only where an epoch starts: in the middle of one, the draw is taken back.
    """
    sampler._epoch = sampler._restored_epoch = state["epoch"]
    sampler._start_index = state["start_index"]
    sampler._restored_generator = torch.get_rng_state() if state["start_index"] else None


def set_epoch(sampler: EpisodeAwareSampler, epoch: int) -> None:
    """Set the epoch of LeRobot's sampler, counted from the one it was restored in.

    Accelerate calls this at every pass over the data with the number of passes of this process, 0 at first, and so
    sends a resumed run back to the order of the first epoch (LeRobot's pull request 4692).
    """
    sampler._epoch = epoch + getattr(sampler, "_restored_epoch", 0)


def iter_epoch(sampler: EpisodeAwareSampler, epoch: int, start: int) -> Iterator[int]:
    """Give the frames of an epoch from ``start`` on; the first time, with the generator ``load_state_dict`` found."""
    generator = getattr(sampler, "_restored_generator", None)
    if generator is not None:
        sampler._restored_generator = None
        torch.set_rng_state(generator)
    yield from _iter_epoch(sampler, epoch, start)


def items(dataset: LeRobotDataset, indices: list[int]) -> list[dict[str, Any]]:
    """Return ``[dataset[i] for i in indices]``, gathered from columns in memory where that is possible.

    Datasets with cameras, text columns or an open recording go the usual way, frame by frame.
    """
    if dataset.writer is not None:
        return [dataset[i] for i in indices]
    if dataset not in _held:
        _held[dataset] = Columns.of(dataset)
    columns = _held[dataset]
    return [dataset[i] for i in indices] if columns is None else columns.items(indices)


@dataclass(frozen=True)
class Columns:
    """The numeric columns of a dataset as tensors.

    Attributes:
        values: feature -> (frames, ...).
        starts: (frames,) the first row of each frame's episode.
        ends: (frames,) the row after its last.
        windows: feature -> steps, relative to the frame, that its window holds.
        tasks: sentences by task index.
    """

    values: dict[str, Tensor]
    starts: Tensor
    ends: Tensor
    windows: dict[str, Tensor]
    tasks: list[str]

    @classmethod
    def of(cls, dataset: LeRobotDataset) -> "Columns | None":
        """Read the columns of a dataset; None if it has others than numbers."""
        if not all(feature["dtype"].startswith(_NUMBERS) for feature in dataset.features.values()):
            return None
        values = dataset.hf_dataset.with_format("torch")[:]
        starts, ends = episode_borders(values["episode_index"])
        deltas = dataset.reader.delta_indices or {}
        return cls(
            values=values,
            starts=starts,
            ends=ends,
            windows={key: torch.tensor(steps) for key, steps in deltas.items()},
            tasks=[str(task) for task in dataset.meta.tasks.index],
        )

    def items(self, indices: list[int]) -> list[dict[str, Any]]:
        """Return the frames ``indices`` as LeRobot's dicts: windows clamped to the episode and ``<key>_is_pad``."""
        rows = torch.as_tensor(indices)
        batch = {key: values[rows] for key, values in self.values.items() if key not in self.windows}
        for key, steps in self.windows.items():
            inside, batch[f"{key}_is_pad"] = window(rows, steps, self.starts, self.ends)
            batch[key] = gather(self.values[key], inside)
        tasks = [self.tasks[task] for task in batch["task_index"].tolist()]
        columns = {key: values.unbind() for key, values in batch.items()}
        return [{**{key: column[i] for key, column in columns.items()}, "task": task} for i, task in enumerate(tasks)]
