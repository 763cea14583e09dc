"""Action chunks with their observations, from a LeRobot dataset, as tensors in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anyorder.datasets.checks import check_finite, check_lengths
from anyorder.datasets.folder import (
    INDEX_COLUMNS,
    DatasetInfo,
    dimension_names,
    read_columns,
    read_info,
    task_names,
    vector_keys,
)
from anyorder.datasets.images import FrameImages, resolve_root
from anyorder.errors import DatasetError, bad_value

Batch = dict[str, Any]
"""LeRobot's training batch: tensors by feature name, and ``task``, a list of str."""


@dataclass(frozen=True)
class ActionChunks:
    """Every frame of a dataset as the start of a chunk of the next ``horizon`` actions.

    ``batch`` gives bit for bit what LeRobot's loader gives with ``delta_timestamps={"action": [0, 1/fps, ...,
    (horizon - 1)/fps]}``: a chunk that runs past the end of its episode repeats the last action and says so
    in ``action_is_pad``. It is also a torch map-style dataset: pass ``collate_fn=ActionChunks.collate`` to a
    ``DataLoader``.

    Two ways to count an epoch: ``policy_epoch`` starts a chunk at every frame, ``token_epoch`` predicts every
    action once.
    """

    info: DatasetInfo
    horizon: int
    columns: dict[str, Tensor]
    """Feature -> (frames, *shape)."""
    ends: Tensor
    """(frames,) int64: the row after the last one of the frame's episode."""
    tasks: list[str]
    images: FrameImages | None = None

    @classmethod
    def load(
        cls,
        root: str | Path | None = None,
        repo_id: str | None = None,
        *,
        horizon: int,
        episodes: int | Sequence[int] | None = None,
        seed: int = 0,
        features: Sequence[str] | None = None,
        images: bool = False,
        allow_short: bool = False,
    ) -> Self:
        """Read a dataset (v3) from the folder ``root`` or, by ``repo_id``, from LeRobot's cache or the hub.

        Args:
            root: dataset folder.
            repo_id: name on the hub, used when ``root`` is None.
            horizon: actions in a chunk.
            episodes: how many (a reproducible choice, see ``subset``) or which ones; None for all.
            seed: of that choice.
            features: numeric features to hold beside the index columns; None for all.
            images: also give camera frames, decoded by LeRobot when a batch is asked for (slow).
            allow_short: accept episodes shorter than ``horizon``, padded as above, as long as one is not.

        Raises:
            DatasetError: the folder is missing, damaged or of another version; a value is not finite; an
                episode is shorter than the horizon; fewer episodes than asked for; an unknown feature.
        """
        if horizon < 1:
            raise DatasetError(bad_value("horizon", horizon, "an integer >= 1"))
        info = read_info(resolve_root(root, repo_id, images=images))
        keys = vector_keys(info, features)
        columns = read_columns(info, [*keys, *INDEX_COLUMNS])
        chunks = cls(
            info=info,
            horizon=horizon,
            columns={key: torch.from_numpy(values) for key, values in columns.items()},
            ends=torch.from_numpy(episode_ends(columns["episode_index"])),
            tasks=task_names(info.root),
            images=FrameImages(info.root, repo_id) if images and info.cameras else None,
        )
        if episodes is not None:
            chunks = chunks.subset(episodes, seed)
        check_finite(chunks.columns)
        check_lengths(chunks.episode_ids, chunks.lengths, horizon, allow_short)
        return chunks

    def batch(self, indices: Tensor | Sequence[int], counted: Tensor | None = None) -> Batch:
        """Gather the chunks that start at rows ``indices``.

        Args:
            indices: (B,) int64 rows, 0 ... frames - 1.
            counted: (B,) int64; actions from this step of the chunk on are marked in ``action_is_pad``
                although they are real, because another chunk of the same token epoch predicts them.

        Returns:
            Every feature as (B, *shape), ``action`` as (B, horizon, action size), ``action_is_pad`` (B,
            horizon) bool, ``task`` as B sentences.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64, device=self.ends.device)
        batch: Batch = {key: values[rows] for key, values in self.columns.items() if key != "action"}
        batch["action"], batch["action_is_pad"] = self._window("action", rows)
        if counted is not None:
            steps = torch.arange(self.horizon, device=rows.device)
            batch["action_is_pad"] |= steps >= counted.to(rows.device)[:, None]
        batch["task"] = [self.tasks[task] for task in batch["task_index"].tolist()]
        if self.images is not None:
            batch.update(self.images.frames(batch["index"]))
        return batch

    def _window(self, key: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the next ``horizon`` values of a feature, clamped to the episode, and where that clamped."""
        steps = rows[:, None] + torch.arange(self.horizon, device=rows.device)
        last = self.ends[rows][:, None] - 1
        window = torch.minimum(steps, last)
        values = self.columns[key]
        gathered = values.index_select(0, window.flatten())
        return gathered.view(*window.shape, *values.shape[1:]), steps > last

    def policy_epoch(self, generator: torch.Generator) -> Tensor:
        """Return every row once, in random order: (frames,) int64."""
        return torch.randperm(self.frames, generator=generator)

    def token_epoch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tile every episode with chunks so that each action is predicted exactly once.

        An offset o in 0 ... horizon - 1 is drawn for every episode; chunks start at o, o + horizon, ... and,
        if o > 0, one more at row 0. That first chunk holds its real actions, so that a tokenizer of whole
        chunks sees nothing unnatural, but only its first o count: the rest belongs to the chunk at o. The
        last chunk is padded as always.

        Returns:
            ``indices`` and ``counted`` for ``batch``, both (chunks,) int64, in random order. Over an epoch
            ``(~action_is_pad).sum()`` is exactly ``frames``.
        """
        indices: list[int] = []
        counted: list[int] = []
        for start, length in zip(self.starts.tolist(), self.lengths.tolist(), strict=True):
            offset = int(torch.randint(self.horizon, (), generator=generator))
            begins = [0] * (offset > 0) + list(range(offset, length, self.horizon))
            indices += [start + begin for begin in begins]
            counted += [offset or self.horizon] + [self.horizon] * (len(begins) - 1)
        order = torch.randperm(len(indices), generator=generator)
        return torch.tensor(indices)[order], torch.tensor(counted)[order]

    def subset(self, episodes: int | Sequence[int], seed: int = 0) -> Self:
        """Keep some episodes.

        A number n keeps the first n of a random order of the episodes held, the same for the same ``seed``:
        the 20 episodes of a seed are among its 50. A list keeps exactly those dataset episodes.

        Raises:
            DatasetError: more, or other, episodes than are here.
        """
        held = self.episode_ids
        if isinstance(episodes, int):
            if not 1 <= episodes <= len(held):
                raise DatasetError(
                    bad_value("episodes", episodes, f"1 ... {len(held)}, what the dataset has")
                )
            chosen = [held[i] for i in np.random.default_rng(seed).permutation(len(held))[:episodes]]
        else:
            chosen = list(episodes)
            wrong = sorted(set(chosen) - set(held))
            if wrong or not chosen:
                allowed = f"a list out of the dataset's {len(held)} episodes, {held[0]} ... {held[-1]}"
                raise DatasetError(bad_value("episodes", wrong, allowed))
        keep = torch.isin(self.columns["episode_index"], torch.tensor(chosen, device=self.ends.device))
        columns = {key: values[keep] for key, values in self.columns.items()}
        ends = torch.from_numpy(episode_ends(columns["episode_index"].cpu().numpy())).to(self.ends.device)
        return replace(self, columns=columns, ends=ends)

    def split(self, validation_fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Split by whole episodes into (train, validation), at least one episode in each.

        Raises:
            DatasetError: the fraction is not between 0 and 1, or there is one episode only.
        """
        held = self.episode_ids
        if not 0 < validation_fraction < 1:
            raise DatasetError(bad_value("validation_fraction", validation_fraction, "a number in (0, 1)"))
        if len(held) < 2:
            raise DatasetError(bad_value("episodes", len(held), "at least 2, to split off a validation set"))
        count = min(max(round(validation_fraction * len(held)), 1), len(held) - 1)
        order = [held[i] for i in np.random.default_rng(seed).permutation(len(held))]
        return self.subset(sorted(order[count:])), self.subset(sorted(order[:count]))

    def without_images(self) -> Self:
        """Leave the cameras out of the batches."""
        return replace(self, images=None)

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors; batches are then gathered on that device."""
        columns = {key: values.to(device) for key, values in self.columns.items()}
        return replace(self, columns=columns, ends=self.ends.to(device))

    @property
    def frames(self) -> int:
        """Return the number of frames."""
        return len(self.ends)

    @property
    def fps(self) -> int:
        """Return the control rate in Hz."""
        return self.info.fps

    @property
    def minutes(self) -> float:
        """Return the length of the demonstrations in minutes."""
        return self.frames / self.fps / 60

    @property
    def starts(self) -> Tensor:
        """Return the first row of every episode, (episodes,) int64."""
        first = torch.zeros(1, dtype=torch.int64, device=self.ends.device)
        return torch.cat([first, torch.unique_consecutive(self.ends)[:-1]])

    @property
    def lengths(self) -> Tensor:
        """Return the frames of every episode, (episodes,) int64."""
        ends: Tensor = torch.unique_consecutive(self.ends)
        return ends - self.starts

    @property
    def episode_ids(self) -> list[int]:
        """Return the dataset's numbers of the episodes held, in order."""
        return [int(episode) for episode in torch.unique_consecutive(self.columns["episode_index"])]

    @property
    def episodes(self) -> int:
        """Return the number of episodes."""
        return len(self.lengths)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every numeric feature and, with ``images``, of every camera (C, H, W)."""
        shapes = {key: tuple(self.info.features[key]["shape"]) for key in self._vectors}
        for key in self.info.cameras if self.images is not None else []:
            height, width, channels = self.info.features[key]["shape"]
            shapes[key] = (channels, height, width)
        return shapes

    @property
    def names(self) -> dict[str, list[str]]:
        """Return the names of every numeric feature's dimensions."""
        return {key: dimension_names(self.info.features[key]) for key in self._vectors}

    @property
    def action_names(self) -> list[str]:
        """Return the names of the action's dimensions."""
        return self.names["action"]

    @property
    def constant_dimensions(self) -> dict[str, list[str]]:
        """Return, per float feature, the dimensions that never change: harmless, but worth a note."""
        found = {}
        for key in self._vectors:
            values = self.columns[key].reshape(self.frames, -1)
            if values.is_floating_point():
                still = (values == values[:1]).all(dim=0).tolist()
                found[key] = [name for name, flag in zip(self.names[key], still, strict=True) if flag]
        return {key: names for key, names in found.items() if names}

    @property
    def _vectors(self) -> list[str]:
        return [key for key in self.columns if key not in INDEX_COLUMNS]

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Batch:
        return {key: value[0] for key, value in self.batch([index]).items()}

    def __getitems__(self, indices: list[int]) -> Batch:
        return self.batch(indices)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Return the batch: ``DataLoader`` asks ``__getitems__`` for whole batches."""
        return batch


def episode_ends(episode: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for every frame the row after the last one of its episode, (frames,) int64."""
    borders = [*(np.flatnonzero(np.diff(episode)) + 1), len(episode)]
    return np.repeat(np.array(borders, dtype=np.int64), np.diff([0, *borders]))
