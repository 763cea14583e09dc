"""Whether a policy fits a dataset, said in one line before any work."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.utils.constants import ACTION
from lerobot.utils.feature_utils import dataset_to_policy_features

from anyorder.envs.features import FPS_TOLERANCE, alike, flat_shape
from anyorder.errors import ConfigError, DatasetError
from anyorder.factorization import Factorization
from anyorder.policies.configuration_anyorder import AnyOrderConfig


def check_dataset(policy_config: PreTrainedConfig, dataset_meta: Any) -> None:
    """Check that a dataset (LeRobot's metadata) has what a policy that is already fitted reads and gives.

    Raises:
        DatasetError: a feature is missing or of another shape, or the rate is too far off.
    """
    offered = shapes(dataset_to_policy_features(dataset_meta.features))
    wanted = required(policy_config)
    if (size := action_size(policy_config)) is not None:
        wanted[ACTION] = (size,)
    wrong = [f"{name} {list(shape)}" for name, shape in wanted.items() if not alike(offered.get(name), shape)]
    if wrong:
        given = {name: list(shape) for name, shape in offered.items()}
        allowed = "the policy's " + ", ".join(wrong)
        raise DatasetError(f"features of dataset {dataset_meta.repo_id}", given, allowed)
    fps = getattr(policy_config, "fps", None)
    if fps is not None and abs(dataset_meta.fps / fps - 1) > FPS_TOLERANCE:
        allowed = f"{fps:g} Hz, at which the policy has learnt, or at most 20 % off"
        raise DatasetError(f"fps of dataset {dataset_meta.repo_id}", dataset_meta.fps, allowed)


def check_progress(family: Factorization, allowed: str) -> None:
    """Refuse a family that changes what it learns along training, where nobody says how far that is.

    Raises:
        ConfigError: with ``allowed`` as what to do instead.
    """
    if family.anneals:
        raise ConfigError("progress of training, by which the factorization anneals", None, allowed)


def check_videos(policy_config: PreTrainedConfig, root: Path, episodes: Sequence[int] | None = None) -> None:
    """Check that the videos a policy looks at can be read; LeRobot would find out in the middle of the training.

    Those that were not downloaded are passed over, as are those that hold none of the ``episodes`` (None for all), and
    times may be a frame off, as ``--tolerance_s`` may allow it.

    Raises:
        DatasetError: names the file.
    """
    from anyorder.datasets.read.folder import INDEX_COLUMNS, read_columns, read_info
    from anyorder.datasets.read.images import FrameReader, is_depth
    from anyorder.datasets.read.places import video_places

    info = read_info(root)
    films = [
        key
        for key in policy_config.image_features
        if key in info.cameras and info.features[key]["dtype"] == "video" and not is_depth(info, key)
    ]
    if not any(video_places(info, key, partial=True) for key in films):
        return
    columns = {k: torch.from_numpy(v) for k, v in read_columns(info, list(INDEX_COLUMNS), partial=True).items()}
    if episodes is not None:
        chosen = torch.isin(columns["episode_index"], torch.tensor(list(episodes), dtype=torch.int64))
        columns = {key: values[chosen] for key, values in columns.items()}
    FrameReader(info, films, None, columns, partial=True, tolerance_s=1 / info.fps).check()


def shapes(features: Mapping[str, PolicyFeature] | None) -> dict[str, tuple[int, ...]]:
    """Return the shape of each feature, tables of numbers as the vectors that they are read as."""
    found = {name: (feature.type, tuple(feature.shape)) for name, feature in (features or {}).items()}
    return {
        name: shape if kind is FeatureType.VISUAL else flat_shape(name, shape) for name, (kind, shape) in found.items()
    }


def required(policy_config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Return the observations a policy cannot do without: all, but cameras where it has learnt to miss them."""
    wanted = shapes(policy_config.input_features)
    if isinstance(policy_config, AnyOrderConfig) and policy_config.encoder.vision.dropout:
        for name in policy_config.image_features:
            del wanted[name]
    return wanted


def action_size(policy_config: PreTrainedConfig) -> int | None:
    """Return the dimensions of a policy's action; None where it does not say."""
    feature = policy_config.action_feature
    return None if feature is None else math.prod(feature.shape)
