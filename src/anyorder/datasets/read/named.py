"""Episodes whose columns are features of datasets: their shapes, and the names of their dimensions."""

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from anyorder.datasets.read.episodes import Episodes
from anyorder.datasets.read.folder import INDEX_COLUMNS, DatasetInfo
from anyorder.datasets.read.names import dimension_names, given_names

DATASET_INDEX = "dataset_index"
"""The column of a mixture that says which of its datasets a frame is from."""


@dataclass(frozen=True)
class NamedEpisodes(Episodes):
    """Whole episodes of one dataset, or of several that were mixed."""

    infos: tuple[DatasetInfo, ...]
    """What each dataset's ``meta/info.json`` says: of one, or of all in a mixture."""

    @property
    def info(self) -> DatasetInfo:
        """Return what the first dataset's ``meta/info.json`` says."""
        return self.infos[0]

    @property
    def roots(self) -> list[Path]:
        """Return the folders of the datasets."""
        return [info.root for info in self.infos]

    @property
    def fps(self) -> float:
        """Return the control rate in Hz."""
        return self.info.fps

    @property
    def minutes(self) -> float:
        """Return the length of the demonstrations in minutes."""
        return self.frames / self.fps / 60

    @property
    def vectors(self) -> dict[str, Tensor]:
        """Return the columns of numeric features: all but those that count rows."""
        return {k: values for k, values in self.columns.items() if k not in (*INDEX_COLUMNS, DATASET_INDEX)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of one frame of every numeric feature."""
        return {key: tuple(values.shape[1:]) or (1,) for key, values in self.vectors.items()}

    @property
    def names(self) -> dict[str, list[str]]:
        """Return the names of every numeric feature's dimensions: numbers where the dataset gives none."""
        return {key: dimension_names(self.info.features[key]) for key in self.vectors}

    @property
    def given_names(self) -> dict[str, list[str]]:
        """Return the names of dimensions where the dataset gives them, and all datasets of a mixture do."""
        found = {}
        for key in self.vectors:
            names = [given_names(info.features[key]) for info in self.infos]
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
        for key, values in self.vectors.items():
            values = values.reshape(self.frames, math.prod(values.shape[1:]))
            if values.is_floating_point():
                still = (values == values[:1]).all(dim=0).tolist()
                found[key] = [name for name, flag in zip(self.names[key], still, strict=True) if flag]
        return {key: names for key, names in found.items() if names}
