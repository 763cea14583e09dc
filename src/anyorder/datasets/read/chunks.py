"""Action chunks with their observations, from a LeRobot dataset, as tensors in memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from anyorder.datasets.read.cameras import Cameras, Progress, check_cache_gb, check_image_size
from anyorder.datasets.read.checks import check_finite, check_lengths, check_order
from anyorder.datasets.read.episodes import (
    Episodes,
    choose_episodes,
    episode_borders,
    gather,
    split_episodes,
    tiles,
    window,
)
from anyorder.datasets.read.folder import (
    INDEX_COLUMNS,
    DatasetInfo,
    read_columns,
    read_info,
    resolve_root,
    vector_keys,
)
from anyorder.datasets.read.images import TOLERANCE_S, FrameReader, camera_keys
from anyorder.datasets.read.names import dimension_names, given_names
from anyorder.datasets.read.places import task_names
from anyorder.datasets.write.commit import check_recorded
from anyorder.envs.features import flat_shape
from anyorder.errors import DatasetError

ACTION = "action"
OBSERVATION = "observation."
DATASET_INDEX = "dataset_index"
"""Column of a mixture's chunks: which of its datasets a frame is from."""

Batch = dict[str, Any]
"""LeRobot's training batch: tensors by feature name, and ``task``, a list of str."""


@dataclass(frozen=True)
class ActionChunks(Episodes):
    """Every frame of a dataset as the start of a chunk of the next ``horizon`` actions.

    ``batch`` gives bit for bit what LeRobot's loader gives with ``delta_timestamps={"action": [0, 1/fps, ...,
    (horizon - 1)/fps]}`` and, for ``history`` > 1, ``[-(history - 1)/fps, ..., 0]`` for every observation: what
    lies outside of an episode repeats its first or last frame and says so in ``<feature>_is_pad``. Only actions and
    observations of booleans or of tables differ: they become numbers (0 and 1) and vectors. It is also a
    torch map-style dataset: pass ``collate_fn=ActionChunks.collate`` to a ``DataLoader``.

    Two ways to count an epoch: ``policy_epoch`` starts a chunk at every frame, ``token_epoch`` predicts every
    action once.
    """

    info: DatasetInfo
    horizon: int
    tasks: list[str]
    history: int = 1
    """Frames of every observation, the current one last."""
    cameras: Cameras | None = None
    numbers: Tensor | None = None
    """(frames,) int64: each row's number among the frames of ``cameras``."""
    weights: tuple[float, ...] = ()
    """Of a mixture: the weight of each dataset, to which the column ``dataset_index`` points; see ``mix``."""
    others: tuple[DatasetInfo, ...] = ()
    """Of a mixture: its datasets after the first, which is ``info``."""

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
        history: int = 1,
        images: bool | Sequence[str] = False,
        image_size: Sequence[int] | None = None,
        cache_gb: float | None = None,
        progress: Progress | None = None,
        allow_short: bool = False,
        partial: bool = False,
        exclude: Sequence[int] = (),
        rename: Mapping[str, str] | None = None,
        tolerance_s: float = TOLERANCE_S,
    ) -> Self:
        """Read a dataset (v3) from the folder ``root`` or, by ``repo_id``, from LeRobot's cache or the hub.

        Args:
            root: dataset folder.
            repo_id: name on the hub, used when ``root`` is None.
            horizon: actions in a chunk.
            episodes: how many (a reproducible choice, see ``subset``) or which ones; None for all.
            seed: of that choice.
            features: numeric features to hold beside the index columns; None for all.
            history: frames of every observation, the current one last; 1 gives them without a time axis.
            images: also give camera frames: of all cameras, or of those named.
            image_size: (height, width) to scale them down to.
            cache_gb: GiB of memory in which decoded frames may be kept; None for half of what is free. If they do
                not fit, LeRobot decodes them when a batch is asked for (slow).
            progress: called with (finished, wanted) while frames are decoded into memory.
            allow_short: accept episodes shorter than ``horizon``, padded as above, as long as one is not.
            partial: accept that files of some episodes are not there, as where only some were downloaded.
            exclude: episodes to leave out, by number, before any are chosen.
            rename: other names for features, by the dataset's own: ``{"actions": "action"}``.
            tolerance_s: how far a video's frame may be from its time stamp.

        Raises:
            DatasetError: the folder is missing, damaged or of another version; a value is not finite; an
                episode is shorter than the horizon; fewer episodes than asked for; an unknown feature.
        """
        for name, count in (("chunk_size", horizon), ("n_obs_steps", history)):
            if count < 1:
                raise DatasetError(name, count, "an integer >= 1")
        check_image_size(image_size)
        check_cache_gb(cache_gb)
        info = read_info(resolve_root(root, repo_id, images=bool(images))).renamed(rename or {})
        check_recorded(info.root)
        keys = vector_keys(info, features)
        cameras = camera_keys(info, images)
        columns = {
            key: as_numbers(key, torch.from_numpy(values))
            for key, values in read_columns(info, [*keys, *INDEX_COLUMNS], partial).items()
        }
        begins, ends = episode_borders(columns["episode_index"])
        tasks = task_names(info.root, columns["task_index"].unique().tolist())
        columns["task_index"] = torch.searchsorted(torch.tensor(list(tasks)), columns["task_index"])
        chunks = cls(columns, begins, ends, info, horizon, list(tasks.values()), history)
        chunks = chunks.without(exclude)
        if episodes is not None:
            chunks = chunks.subset(episodes, seed)
        check_order(chunks.columns)
        check_finite(
            {key: chunks.columns[key] for key in [*keys, *(["timestamp"] if cameras else [])]}, chunks.columns
        )
        check_lengths(chunks.episode_ids, chunks.lengths, horizon, allow_short)
        if cameras:
            reader = FrameReader(info, cameras, image_size, chunks.columns, tolerance_s=tolerance_s)
            reader.check()
            chunks = replace(chunks, cameras=Cameras.of(reader), numbers=torch.arange(chunks.frames))
            chunks.cache(cache_gb, progress)
        return chunks

    def cache(self, cache_gb: float | None = None, progress: Progress | None = None) -> bool:
        """Decode all camera frames into memory if they fit, for these chunks and all taken from them.

        Args:
            cache_gb: see ``load``.
            progress: see ``load``.

        Returns:
            Whether frames are in memory (or there are no cameras), so that batches cost next to nothing.
        """
        return self.cameras is None or self.cameras.fill(cache_gb, progress)

    def batch(
        self, indices: Tensor | Sequence[int], counted: Tensor | None = None, *, raw: bool = False
    ) -> Batch:
        """Gather the chunks that start at rows ``indices``.

        Args:
            indices: (B,) int64 rows, 0 ... frames - 1.
            counted: (B,) int64; actions from this step of the chunk on are marked in ``action_is_pad``
                although they are real, because another chunk of the same token epoch predicts them.
            raw: camera frames as uint8, a quarter of the bytes, instead of float32 in [0, 1].

        Returns:
            Every feature as (B, *shape), ``action`` as (B, horizon, action size), ``action_is_pad`` (B,
            horizon) bool, ``task`` as B sentences, camera frames (B, channels, height, width). With ``history``
            > 1 every observation as (B, history, *shape) and its ``<feature>_is_pad`` (B, history) bool.
        """
        rows = torch.as_tensor(indices, dtype=torch.int64, device=self.ends.device)
        steps = torch.arange(1 - self.history, self.horizon, device=rows.device)
        past, early = window(rows, steps[: self.history], self.begins, self.ends)
        future, padded = window(rows, steps[self.history - 1 :], self.begins, self.ends)
        batch: Batch = {}
        for key, values in self.columns.items():
            if key == "action":
                batch[key], batch["action_is_pad"] = gather(values, future), padded
            elif self.history > 1 and key.startswith(OBSERVATION):
                batch[key], batch[f"{key}_is_pad"] = gather(values, past), early
            else:
                batch[key] = values[rows]
        if counted is not None:
            batch["action_is_pad"] |= steps[self.history - 1 :] >= counted.to(rows.device)[:, None]
        batch["task"] = [self.tasks[task] for task in batch["task_index"].tolist()]
        if self.cameras is not None and self.numbers is not None:
            numbers = self.numbers[past if self.history > 1 else rows].cpu()
            for key in self.cameras.shapes:
                frames = self.cameras.frames(key, numbers.flatten()).to(rows.device)
                frames = frames.view(*numbers.shape, *frames.shape[1:])
                batch[key] = frames if raw else frames.to(torch.float32) / 255
                if self.history > 1:
                    batch[f"{key}_is_pad"] = early
            for key, missing in self.cameras.missing.items():
                batch[f"{key}_is_missing"] = missing.to(rows.device)[batch[DATASET_INDEX]]
        return batch

    def without_images(self) -> Self:
        """Return the same chunks whose batches hold no camera frames."""
        return replace(self, cameras=None, numbers=None)

    def token_epoch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tile every episode with chunks so that each action is predicted exactly once; see ``tiles``.

        Returns:
            ``indices`` and ``counted`` for ``batch``, both (chunks,) int64, in random order. Over an epoch
            ``(~action_is_pad).sum()`` is exactly ``frames``.
        """
        return tiles(self.starts, self.lengths, self.horizon, generator)

    def subset(self, episodes: int | Sequence[int], seed: int = 0) -> Self:
        """Keep some episodes.

        A number n keeps the first n of a random order of the episodes held, the same for the same ``seed``:
        the 20 episodes of a seed are among its 50. A list keeps exactly those dataset episodes.

        Raises:
            DatasetError: more, or other, episodes than are here.
        """
        return self._keep(choose_episodes(self.episode_ids, episodes, seed))

    def without(self, episodes: Sequence[int]) -> Self:
        """Leave some episodes out, by their numbers in the dataset.

        Raises:
            DatasetError: one is not here, or none would be left.
        """
        held = self.episode_ids
        wrong = sorted(set(episodes) - set(held))
        if wrong or not set(held) - set(episodes):
            allowed = f"some of the dataset's {len(held)} episodes, {held[0]} ... {held[-1]}, not all"
            raise DatasetError("dataset.exclude_episodes", wrong or list(episodes), allowed)
        return self._keep([e for e in held if e not in set(episodes)]) if episodes else self

    def _keep(self, chosen: Sequence[int]) -> Self:
        """Keep the rows of some episodes, which may be none."""
        keep = torch.isin(
            self.columns["episode_index"], torch.tensor(chosen, dtype=torch.int64, device=self.ends.device)
        )
        columns = {key: values[keep] for key, values in self.columns.items()}
        begins, ends = episode_borders(columns["episode_index"])
        numbers = None if self.numbers is None else self.numbers[keep]
        return replace(self, columns=columns, begins=begins, ends=ends, numbers=numbers)

    def split(self, validation_fraction: float, seed: int = 0) -> tuple[Self, Self]:
        """Split by whole episodes into (train, validation), at least one episode of every dataset in each.

        A fraction of 0 holds none out: the second part then has no episodes and no frames.

        Raises:
            DatasetError: the fraction is not in [0, 1), or there is one episode only.
        """
        train, validation = [], []
        for held in self._episodes_by_dataset():
            kept, held_out = split_episodes(held, validation_fraction, seed)
            train += kept
            validation += held_out
        return self._keep(train), self._keep(validation)

    def _episodes_by_dataset(self) -> list[list[int]]:
        if DATASET_INDEX not in self.columns:
            return [self.episode_ids]
        origin = self.columns[DATASET_INDEX][self.starts].tolist()
        return [
            [episode for episode, of in zip(self.episode_ids, origin, strict=True) if of == dataset]
            for dataset in range(len(self.weights))
        ]

    def to(self, device: torch.device | str) -> Self:
        """Move the tensors; batches are then gathered on that device. Camera frames are moved batch by batch."""
        columns = {key: values.to(device) for key, values in self.columns.items()}
        numbers = None if self.numbers is None else self.numbers.to(device)
        return replace(
            self,
            columns=columns,
            begins=self.begins.to(device),
            ends=self.ends.to(device),
            numbers=numbers,
        )

    @property
    def fps(self) -> float:
        """Return the control rate in Hz."""
        return self.info.fps

    @property
    def minutes(self) -> float:
        """Return the length of the demonstrations in minutes."""
        return self.frames / self.fps / 60

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one frame of every numeric feature and of every camera read, (C, H, W)."""
        shapes = {key: tuple(values.shape[1:]) or (1,) for key, values in self._vectors.items()}
        return {**shapes, **(self.cameras.shapes if self.cameras is not None else {})}

    @property
    def names(self) -> dict[str, list[str]]:
        """Return the names of every numeric feature's dimensions: numbers where the dataset gives none."""
        return {key: dimension_names(self.info.features[key]) for key in self._vectors}

    @property
    def given_names(self) -> dict[str, list[str]]:
        """Return the names of dimensions where the dataset gives them, and all datasets of a mixture do."""
        found = {}
        for key in self._vectors:
            names = [given_names(info.features[key]) for info in (self.info, *self.others)]
            if names[0] is not None and None not in names:
                found[key] = names[0]
        return found

    @property
    def action_names(self) -> list[str]:
        """Return the names of the action's dimensions."""
        return self.names["action"]

    @property
    def constant_dimensions(self) -> dict[str, list[str]]:
        """Return, per float feature, the dimensions that never change: harmless, but worth a note."""
        found = {}
        for key, values in self._vectors.items():
            values = values.reshape(self.frames, math.prod(values.shape[1:]))
            if values.is_floating_point():
                still = (values == values[:1]).all(dim=0).tolist()
                found[key] = [name for name, flag in zip(self.names[key], still, strict=True) if flag]
        return {key: names for key, names in found.items() if names}

    @property
    def _vectors(self) -> dict[str, Tensor]:
        return {k: values for k, values in self.columns.items() if k not in (*INDEX_COLUMNS, DATASET_INDEX)}

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


def as_numbers(key: str, values: Tensor) -> Tensor:
    """Return the actions and observations as what a policy reads: booleans as 0 and 1, tables as in ``flat_shape``.

    Args:
        key: name of the feature; others stay as they are.
        values: (frames, *shape).

    >>> as_numbers("action", torch.tensor([[[True, False], [True, True]]]))
    tensor([[1., 0., 1., 1.]])
    """
    if key != ACTION and not key.startswith(OBSERVATION):
        return values
    if values.dtype == torch.bool:
        values = values.to(torch.float32)
    return values if values.dim() == 1 else values.reshape(-1, *flat_shape(key, tuple(values.shape[1:])))
