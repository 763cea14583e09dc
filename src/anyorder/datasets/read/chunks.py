"""Action chunks with their observations, from a LeRobot dataset, as tensors in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, override

import torch
from torch import Tensor

from anyorder.datasets.read.cameras import CameraRows, Cameras, Progress, check_image_size
from anyorder.datasets.read.checks import check_finite, check_lengths, check_order
from anyorder.datasets.read.episodes import (
    ALL_EPISODES,
    EpisodeChoice,
    choose_episodes,
    episode_borders,
    gather,
    split_episodes,
    window,
)
from anyorder.datasets.read.folder import INDEX_COLUMNS, read_columns, read_info, vector_keys
from anyorder.datasets.read.images import TOLERANCE_S, FrameReader, camera_keys
from anyorder.datasets.read.named import DATASET_INDEX, NamedEpisodes
from anyorder.datasets.read.places import task_names
from anyorder.datasets.write.commit import check_recorded
from anyorder.envs.features import flat_shape
from anyorder.errors import DatasetError

ACTION = "action"
OBSERVATION = "observation."

Batch = dict[str, Any]
"""A batch as LeRobot trains on it: it holds tensors by feature name, and ``task``, a list of str."""


@dataclass(frozen=True)
class ActionChunks(NamedEpisodes):
    """Every frame of a dataset as the start of a chunk of the next ``horizon`` actions.

    ``batch`` gives bit for bit what LeRobot's loader gives with ``delta_timestamps={"action": [0, 1/fps, ...,
    (horizon - 1)/fps]}`` and, for ``history`` > 1, ``[-(history - 1)/fps, ..., 0]`` for every observation: what
    lies outside of an episode repeats its first or last frame and says so in ``<feature>_is_pad``. Only actions and
    observations of booleans or of tables differ: they become numbers (0 and 1) and vectors. It is also a
    torch map-style dataset: pass ``collate_fn=ActionChunks.collate`` to a ``DataLoader``.

    An epoch is counted in two ways: a *policy epoch* starts a chunk at every frame, a *token epoch* predicts every
    action once, see ``tiles``.
    """

    horizon: int
    tasks: list[str]
    history: int = 1
    """Frames of every observation, the current one last."""
    pictures: CameraRows | None = None
    """What the cameras that are read saw; None without cameras."""
    weights: tuple[float, ...] = ()
    """Of a mixture: the weight of each dataset, to which the column ``dataset_index`` points; see ``mix``."""

    @classmethod
    def load(
        cls,
        root: str | Path,
        *,
        horizon: int,
        history: int = 1,
        features: Sequence[str] | None = None,
        images: bool | Sequence[str] = False,
        image_size: Sequence[int] | None = None,
        tolerance_s: float = TOLERANCE_S,
        choice: EpisodeChoice = ALL_EPISODES,
        rename: Mapping[str, str] | None = None,
        allow_short: bool = False,
        partial: bool = False,
    ) -> Self:
        """Read a dataset (v3) from its folder; ``resolve_root`` finds the folder of one on the hub.

        Camera frames are decoded when a batch is asked for, which is slow, unless ``cache`` was called.

        Args:
            root: dataset folder.
            horizon: actions in a chunk.
            history: frames of every observation, the current one last; 1 gives them without a time axis.
            features: numeric features to hold beside the index columns; None for all.
            images: also give camera frames: of all cameras, or of those named.
            image_size: (height, width) to scale them down to.
            tolerance_s: how far a video's frame may be from its time stamp.
            choice: which episodes to read.
            rename: other names for features, by the dataset's own: ``{"actions": "action"}``.
            allow_short: accept episodes shorter than ``horizon``, padded as above, as long as one is not.
            partial: accept that files of some episodes are not there, as where only some were downloaded.

        Raises:
            DatasetError: the folder is missing, damaged or of another version; a value is not finite; an
                episode is shorter than the horizon; fewer episodes than asked for; an unknown feature.
        """
        for name, count in (("chunk_size", horizon), ("n_obs_steps", history)):
            if count < 1:
                raise DatasetError(name, count, "an integer >= 1")
        check_image_size(image_size)
        info = read_info(Path(root)).renamed(rename or {})
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
        chunks = cls(columns, begins, ends, (info,), horizon, list(tasks.values()), history)
        chunks = chunks.without(choice.exclude)
        if choice.episodes is not None:
            chunks = chunks.subset(choice.episodes, choice.seed)
        check_order(chunks.columns, choice.remedies)
        used = {key: chunks.columns[key] for key in [*keys, *(["timestamp"] if cameras else [])]}
        check_finite(used, chunks.columns, choice.remedies)
        check_lengths(chunks.episode_ids, chunks.lengths, horizon, allow_short)
        if cameras:
            reader = FrameReader(info, cameras, image_size, chunks.columns, tolerance_s=tolerance_s)
            reader.check()
            chunks = replace(chunks, pictures=CameraRows(Cameras([reader], reader.shapes), torch.arange(chunks.frames)))
        return chunks

    def cache(self, cache_gb: float | None = None, progress: Progress | None = None) -> bool:
        """Decode all camera frames into memory if they fit, for these chunks and all taken from them.

        They may take ``cache_gb`` GiB, half of what is free when None; ``progress`` is called with (finished, wanted).
        Returns whether frames are in memory (or there are no cameras), so that batches cost next to nothing.
        """
        return self.cameras is None or self.cameras.fill(cache_gb, progress)

    def batch(self, indices: Tensor | Sequence[int], *, raw: bool = False) -> Batch:
        """Gather the chunks that start at rows ``indices``.

        Args:
            indices: (B,) int64 rows, 0 ... frames - 1.
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
        batch["task"] = [self.tasks[task] for task in batch["task_index"].tolist()]
        if self.pictures is not None:
            for key, frames in self.pictures.frames(past if self.history > 1 else rows, raw=raw).items():
                batch[key] = frames
                if self.history > 1:
                    batch[f"{key}_is_pad"] = early
            for key, missing in self.pictures.cameras.missing.items():
                batch[f"{key}_is_missing"] = missing.to(rows.device)[batch[DATASET_INDEX]]
        return batch

    def without_images(self) -> Self:
        """Return the same chunks whose batches hold no camera frames."""
        return replace(self, pictures=None)

    def subset(self, episodes: int | Sequence[int], seed: int = 0) -> Self:
        """Return the same chunks of some episodes only.

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
        pictures = None if self.pictures is None else self.pictures.keep(keep)
        return replace(self, columns=columns, begins=begins, ends=ends, pictures=pictures)

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
        pictures = None if self.pictures is None else self.pictures.to(device)
        return replace(
            self, columns=columns, begins=self.begins.to(device), ends=self.ends.to(device), pictures=pictures
        )

    @property
    def cameras(self) -> Cameras | None:
        """Return the cameras that are read; None without any."""
        return None if self.pictures is None else self.pictures.cameras

    @property
    @override
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one frame of every numeric feature and of every camera read, (C, H, W)."""
        return {**super().shapes, **(self.cameras.shapes if self.cameras is not None else {})}

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
