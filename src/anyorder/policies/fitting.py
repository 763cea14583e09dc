"""What a policy takes from its data before training: normalization, tokenizer, task sentences."""

import sys
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anyorder.datasets.read.episodes import EpisodeChoice, Remedies
from anyorder.errors import ConfigError
from anyorder.factorization import Factorization
from anyorder.factorization.conditionals import digits
from anyorder.networks.language import text_size
from anyorder.policies.checks import check_dataset, check_progress, check_videos
from anyorder.policies.codec import ActionCodec, action_reference
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.networks import SPELLED_NUMBERS
from anyorder.policies.normalizer import Normalizer
from anyorder.settings import to_plain

if TYPE_CHECKING:
    from anyorder.datasets.read.chunks import ActionChunks

REMEDIES = Remedies(
    "--dataset.episodes='[...]' names those to keep, without {0}", "--policy.input_features='{...}' may name fewer"
)
"""What the settings of ``lerobot-train`` can do about bad data."""


@dataclass(frozen=True)
class Facts:
    """What the data say about a policy's settings; each has the name that it has there.

    Attributes:
        fps: control rate in Hz.
        tasks: the sentences.
        language: the encoder's, ``auto`` decided by the number of tasks.
        text_size: numbers that the task's text encoder gives.
        dimension_names: of each feature, for messages.
        action_reference: for each action, the dimension of the state it is relative to; see ``ActionCodec``.
        tokenizer_spec: sizes of the fitted tokenizer; None where none was fitted.
    """

    fps: float
    tasks: list[str]
    language: str
    text_size: int
    dimension_names: dict[str, list[str]]
    action_reference: list[int]
    tokenizer_spec: dict[str, Any] | None

    def complete(self, config: AnyOrderConfig) -> None:
        """Add the facts to a policy's own settings, and name every option of its factorization."""
        # Read before ``fps`` is there, which says that a policy was fitted and names all of them.
        config.factorization = to_plain(config.factorization_config())
        config.encoder = replace(config.encoder, language=self.language)
        for name in ("fps", "tasks", "text_size", "dimension_names", "action_reference"):
            setattr(config, name, getattr(self, name))
        if self.tokenizer_spec is not None:
            config.tokenizer_spec = self.tokenizer_spec


@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Attributes:
        codec: of the actions.
        normalizers: of each vector and point cloud that is observed, by name.
        facts: what the settings of a policy do not say by themselves.
        moments: mean and standard deviation of each number at each position of the codes, each (length, digits); None
            where tokens are no numbers.
    """

    codec: ActionCodec
    normalizers: Mapping[str, Normalizer]
    facts: Facts
    moments: tuple[Tensor, Tensor] | None = None


def fit_to_chunks(config: AnyOrderConfig, chunks: "ActionChunks") -> Fitted:
    """Fit to every chunk of a dataset.

    Args:
        config: settings of the policy; they stay as they are.
        chunks: all of the training data.
    """
    from anyorder.datasets.read.statistics import compute_statistics

    statistics = {name: s.as_lerobot() for name, s in compute_statistics(chunks).items()}
    vectors = replace(chunks.without_images(), history=1)
    return fit(
        config,
        statistics,
        vectors.batch(torch.arange(chunks.frames)),
        fps=chunks.fps,
        tasks=chunks.tasks,
        names=chunks.given_names,
    )


def fit_to_dataset(config: AnyOrderConfig, dataset_meta: Any, episodes: Sequence[int] | None = None) -> Fitted:
    """Fit to episodes of a LeRobot dataset (its metadata), all that are on disk when None; see ``fit_to_chunks``.

    Raises:
        ConfigError: the settings were fitted already, to other data.
        DatasetError: the dataset is damaged or lacks a feature.
    """
    from anyorder.datasets.read.chunks import ActionChunks

    if config.fps is not None:
        raise ConfigError("policy.fps", config.fps, "null, as it is taken from the dataset")
    config.check_unfitted()
    spec = config.observation_spec
    chunks = ActionChunks.load(
        dataset_meta.root,
        horizon=config.chunk_size,
        features=[*spec.vectors, *spec.clouds],
        choice=EpisodeChoice(episodes, remedies=REMEDIES),
        allow_short=True,
        partial=True,
    )
    return fit_to_chunks(config, chunks)


def fit_or_check(config: AnyOrderConfig, family: Factorization, dataset_meta: Any) -> Fitted | None:
    """Fit a new policy to the dataset that ``lerobot-train`` gives, or check that a trained one fits it.

    Of the dataset only those episodes count that the command trains on.

    Raises:
        ConfigError: the factorization wants to know how far training is.
        DatasetError: the dataset is damaged, or lacks what the policy reads.
    """
    check_progress(family, "that of `anyorder train`, as lerobot-train does not tell a policy how far it is")
    fitted, episodes = None, episodes_of_caller(dataset_meta)
    if config.pretrained_path is not None:
        check_dataset(config, dataset_meta)
    else:
        fitted = fit_to_dataset(config, dataset_meta, episodes)
    check_videos(config, Path(dataset_meta.root), episodes)
    return fitted


def episodes_of_caller(dataset_meta: Any) -> list[int] | None:
    """Return the episodes that a caller with a LeRobot dataset of this very metadata trains on; None for all.

    ``lerobot.policies.make_policy`` gets the metadata alone, which does not say which episodes were chosen
    (``--dataset.episodes``, ``--dataset.eval_split``): the dataset is read off the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        dataset = frame.f_locals.get("dataset")
        if dataset is not None and getattr(dataset, "meta", None) is dataset_meta:
            episodes = getattr(dataset, "episodes", None)
            return None if episodes is None else [int(episode) for episode in episodes]
        frame = frame.f_back
    return None


def fit(
    config: AnyOrderConfig,
    statistics: Mapping[str, Mapping[str, np.ndarray]],
    batch: Mapping[str, Tensor],
    fps: float,
    tasks: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
) -> Fitted:
    """Fit a codec to all action chunks, and normalizers to statistics of the observations.

    Args:
        config: settings of the policy; they stay as they are.
        statistics: exact statistics of each observation, by name.
        batch: every chunk to learn from, with its observations, in raw units: ``action`` (count, chunk size,
            action size) fixes the actions' normalization and the tokenizer.
        fps: control rate of the data in Hz.
        tasks: its sentences.
        names: of the dimensions of ``observation.state`` and ``action``, for relative actions.
    """
    named = {name: list(given) for name, given in (names or {}).items()}
    reference = action_reference(named) if config.relative_actions else list(config.action_reference)
    language = config.encoder.language
    if language == "auto":
        language = "table" if len(tasks) > 1 else "none"
    described = text_size(config.encoder.text_model) if language == "text" else config.text_size
    checked = copy(config)
    checked.action_reference = reference
    checked.validate_features()
    codec = ActionCodec.fit(
        batch,
        config.chunk_size,
        config.normalization_mapping["ACTION"],
        config.tokenizer_config() if config.factorization_config().family.discrete else None,
        reference,
    )
    spec = None if codec.tokenizer is None else codec.tokenizer.spec()
    facts = Facts(fps, list(tasks), language, described, named, reference, spec)
    moments = None if config.head.distribution == "categorical" else moments_of(codec, batch)
    return Fitted(codec, observation_normalizers(config, statistics), facts, moments)


def moments_of(codec: ActionCodec, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Return mean and standard deviation of each number at each position of the codes of ``batch``, (length, numbers).

    Where a token stands for fewer numbers than others do, it has no part in them; a number that no code has at a
    position has there the moments of all positions. None where tokens are no numbers.
    """
    tokenizer = codec.tokenizer
    if tokenizer is None or (tokenizer.digits is None and tokenizer.symbols is None):
        return None
    codes = codec.encode(batch)
    if tokenizer.digits is not None:
        numbers = digits(codes, tokenizer.digits).double()
        return numbers.mean(0), numbers.std(0, correction=0)
    numbers = tokenizer.spelling(SPELLED_NUMBERS)[codes].double()
    numbers = numbers.masked_fill(numbers < 0, torch.nan)
    mean, pooled = numbers.nanmean(0), numbers.flatten(0, 1).nanmean(0)
    mean = torch.where(mean.isnan(), pooled.nan_to_num(), mean)
    squares = (numbers - mean).square().nanmean(0)
    return mean, torch.where(squares.isnan(), (numbers - pooled).square().nanmean((0, 1)).nan_to_num(), squares).sqrt()


def observation_normalizers(
    config: AnyOrderConfig, statistics: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, Normalizer]:
    """Return the normalizer of each vector and point cloud that a policy observes, fitted to exact statistics.

    Raises:
        ConfigError: the data lack one of them.
    """
    normalizers, spec = {}, config.observation_spec
    for name, size in {**spec.vectors, **spec.clouds}.items():
        assert config.input_features is not None
        if name not in statistics:
            allowed = ", ".join(statistics)
            raise ConfigError("input_features", name, f"features of the dataset: {allowed}")
        found = statistics[name] if name in spec.vectors else pooled(statistics[name])
        kind = config.input_features[name].type.value
        normalizers[name] = Normalizer(size).fit(found, config.normalization_mapping[kind])
    return normalizers


def pooled(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a cloud's statistics per number of a point, from those per point (points, size): points have no order.

    Quantiles are the outermost of the points'.
    """
    mean, std = statistics["mean"], statistics["std"]
    low = {name: statistics[name].min(0) for name in ("min", "q01")}
    high = {name: statistics[name].max(0) for name in ("max", "q99")}
    spread = np.sqrt(np.maximum((std**2 + mean**2).mean(0) - mean.mean(0) ** 2, 0))
    return {**low, **high, "mean": mean.mean(0), "std": spread}
