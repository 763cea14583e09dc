"""What a policy takes from its data before training: normalisation, tokenizer, task sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.networks.language import text_size
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.normalizer import Normalizer
from anyorder.settings import to_plain
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig

if TYPE_CHECKING:
    from anyorder.datasets.read.chunks import ActionChunks

BOUNDED = (NormalizationMode.MIN_MAX, NormalizationMode.QUANTILES)


@dataclass(frozen=True)
class Fitted:
    """What was fitted.

    Attributes:
        normalizers: of each vector, point cloud and ``action``, by name.
        tokenizer: of the token families.
    """

    normalizers: Mapping[str, Normalizer]
    tokenizer: ActionTokenizer | None


def fit_to_chunks(config: AnyOrderConfig, chunks: "ActionChunks") -> Fitted:
    """Fit to every chunk of a dataset; fills in the settings of ``config`` that depend on the data.

    Args:
        config: settings; its ``fps``, ``tasks``, ``action_reference`` and ``tokenizer_spec`` are filled in.
        chunks: all of the training data.
    """
    from anyorder.datasets.read.statistics import compute_statistics

    statistics = {name: s.as_lerobot() for name, s in compute_statistics(chunks).items()}
    numbers = replace(chunks.without_images(), history=1)
    return fit(
        config,
        statistics,
        numbers.batch(torch.arange(chunks.frames)),
        fps=chunks.fps,
        tasks=chunks.tasks,
        names=chunks.given_names,
    )


def fit_to_dataset(config: AnyOrderConfig, dataset_meta: Any) -> Fitted:
    """Fit to the episodes of a LeRobot dataset (its metadata) that are on disk; see ``fit_to_chunks``.

    Raises:
        ConfigError: the settings were fitted already, to other data.
        DatasetError: the dataset is damaged or lacks a feature.
    """
    from anyorder.datasets.read.chunks import ActionChunks

    if config.fps is not None:
        raise ConfigError("policy.fps", config.fps, "null, as it is taken from the dataset")
    spec = config.observation_spec
    chunks = ActionChunks.load(
        dataset_meta.root,
        horizon=config.chunk_size,
        features=[*spec.vectors, *spec.clouds],
        allow_short=True,
        partial=True,
    )
    return fit_to_chunks(config, chunks)


def fit(
    config: AnyOrderConfig,
    statistics: Mapping[str, Mapping[str, np.ndarray]],
    batch: Mapping[str, Tensor],
    fps: float,
    tasks: Sequence[str] = (),
    names: Mapping[str, Sequence[str]] | None = None,
) -> Fitted:
    """Fit normalisation and tokenizer to statistics of the observations and to all action chunks.

    Args:
        config: settings; what depends on the data (``tokenizer_spec``, ``fps``, ...) is filled in.
        statistics: exact statistics of each observation, by name.
        batch: every chunk to learn from, with its observations, in raw units: ``action`` (count, chunk size,
            action size) fixes the actions' normalisation and the tokenizer.
        fps: control rate of the data in Hz.
        tasks: its sentences.
        names: of the dimensions of ``observation.state`` and ``action``, for relative actions.
    """
    config.factorization = to_plain(config.factorization_config())
    config.fps = fps
    config.tasks = list(tasks)
    if config.encoder.language == "auto":
        config.encoder.language = "table" if len(tasks) > 1 else "none"
    if config.encoder.language == "text":
        config.text_size = text_size(config.encoder.text_model)
    config.dimension_names = {name: list(given) for name, given in (names or {}).items()}
    if config.relative_actions:
        config.action_reference = action_reference(names or {})
    config.validate_features()
    mode = config.normalization_mapping["ACTION"]
    actions = batch[ACTION].view(len(batch[ACTION]), config.chunk_size, config.action_size)
    chunks = actions - reference(batch, config.action_reference)
    discrete = config.factorization_config().build().discrete
    normalizer, tokenizer = fit_actions(chunks, mode, config.tokenizer_config() if discrete else None)
    normalizers = {ACTION: normalizer}
    spec = config.observation_spec
    for name, size in {**spec.vectors, **spec.clouds}.items():
        assert config.input_features is not None
        if name not in statistics:
            allowed = ", ".join(statistics)
            raise ConfigError("input_features", name, f"features of the dataset: {allowed}")
        found = statistics[name] if name in spec.vectors else pooled(statistics[name])
        kind = config.input_features[name].type.value
        normalizers[name] = Normalizer(size).fit(found, config.normalization_mapping[kind])
    if tokenizer is not None:
        config.tokenizer_spec = tokenizer.spec()
    return Fitted(normalizers, tokenizer)


def fit_actions(
    chunks: Tensor, mode: NormalizationMode, tokenizer: TokenizerConfig | None
) -> tuple[Normalizer, ActionTokenizer | None]:
    """Fit normalisation and tokenizer to action chunks (count, chunk size, action size), relative where they shall be.

    Args:
        chunks: all to learn from, in raw units.
        mode: of normalisation.
        tokenizer: its settings; None for none.

    Raises:
        ConfigError: tokens need bounded actions, which ``mode`` does not give.
    """
    normalizer = Normalizer(chunks.shape[-1]).fit(describe(chunks), mode)
    if mode is NormalizationMode.IDENTITY:
        # Not normalised they still have a reach, at which diffusion clips what it predicts from pure noise.
        normalizer.limit.fill_(chunks.abs().max())
    if tokenizer is None:
        return normalizer, None
    if mode not in BOUNDED:
        allowed = ", ".join(m.value for m in BOUNDED) + ", as tokens need actions in [-1, 1]"
        raise ConfigError("normalization_mapping.ACTION", mode.value, allowed)
    return normalizer, tokenizer.fit(normalizer(chunks))


def action_reference(names: Mapping[str, Sequence[str]]) -> list[int]:
    """Return which dimension of ``observation.state`` each action is relative to, found by name, or -1.

    Args:
        names: that the dataset gives the dimensions of ``observation.state`` and ``action``.

    Raises:
        ConfigError: it gives none, one twice, or none that both have.

    >>> action_reference({"observation.state": ["pan", "lift"], "action": ["lift", "grip"]})
    [1, -1]
    """
    for feature in (OBS_STATE, ACTION):
        if all(name.isdecimal() for name in names.get(feature, [])):
            allowed = f"false, as the dataset does not name the dimensions of {feature} (names in its meta/info.json)"
            raise ConfigError("relative_actions", True, allowed)
    state, action = list(names[OBS_STATE]), list(names[ACTION])
    if twice := [name for name in action if action.count(name) > 1 or state.count(name) > 1]:
        allowed = f"false, as more than one dimension has the name {twice[0]!r} (names in its meta/info.json)"
        raise ConfigError("relative_actions", True, allowed)
    found = [state.index(name) if name in state else -1 for name in action]
    if not any(i >= 0 for i in found):
        allowed = (
            f"false, as no dimension of {OBS_STATE} ({', '.join(state)}) has the name of an action "
            f"({', '.join(action)})"
        )
        raise ConfigError("relative_actions", True, allowed)
    return found


def reference(batch: Mapping[str, Tensor], dimensions: list[int]) -> Tensor:
    """Return what each action is relative to: (batch, 1, action size), or a zero when all are absolute.

    Args:
        batch: raw observations; with a history, the present is the last.
        dimensions: for each action, the dimension of ``observation.state``, -1 for absolute.

    >>> reference({"observation.state": torch.tensor([[3.0, 4.0]])}, [1, -1])
    tensor([[[4., 0.]]])
    """
    if not dimensions:
        return torch.zeros(())
    index = torch.tensor(dimensions)
    state = batch[OBS_STATE]
    state = state[:, -1] if state.dim() == 3 else state
    return torch.where(index.to(state.device) >= 0, state[:, index.clamp_min(0)], 0.0).unsqueeze(1)


def describe(chunks: Tensor) -> dict[str, np.ndarray]:
    """Return exact per-dimension statistics of chunks (count, chunk size, action size)."""
    values = chunks.flatten(0, 1).double().cpu().numpy()
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    named = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {**named, "q01": q01, "q99": q99}


def pooled(statistics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a cloud's statistics per number of a point, from those per point (points, size): points have no order.

    Quantiles are the outermost of the points'.
    """
    mean, std = statistics["mean"], statistics["std"]
    low = {name: statistics[name].min(0) for name in ("min", "q01")}
    high = {name: statistics[name].max(0) for name in ("max", "q99")}
    spread = np.sqrt(np.maximum((std**2 + mean**2).mean(0) - mean.mean(0) ** 2, 0))
    return {**low, **high, "mean": mean.mean(0), "std": spread}
