"""A run folder read back: what was trained on what, how well it scores, how often it succeeds."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from anyorder.errors import CheckpointError, ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.files import read_json
from anyorder.reports.rollouts import Rollouts, Video, find_videos, read_rollouts, rollouts_in_training
from anyorder.settings import checked
from anyorder.training.config import TRAIN_CONFIG
from anyorder.training.metrics import read_metrics

DATA_FIELDS = dict.fromkeys(
    ("params", "train_episodes", "validation_episodes", "train_frames", "train_action_tokens"), int | None
) | {"train_minutes": float | None}
SETTINGS_FIELDS = dict.fromkeys(("steps", "batch_size", "chunk_size", "n_action_steps"), int | None) | {
    "factorization": dict[str, Any],
    "dataset": dict[str, Any] | None,
    "network": dict[str, Any] | None,
    "tokenizer": dict[str, Any] | None,
    "rollout": dict[str, Any] | None,
}


@dataclass(frozen=True)
class Score:
    """One validation of a run on its held-out episodes.

    Attributes:
        step: optimiser steps taken before it.
        loss: mean validation loss; nats per chunk for token families, else the family's own error per value.
        nll_nats_per_chunk: negative log-likelihood or the bound on it; None for continuous families.
        nll_nats_per_token: the same per token.
        nll_nats_per_value: the same per action value.
        standard_error_nats_per_chunk: of the NLL per chunk, between held-out episodes; None with one episode.
    """

    step: int
    loss: float
    nll_nats_per_chunk: float | None = None
    nll_nats_per_token: float | None = None
    nll_nats_per_value: float | None = None
    standard_error_nats_per_chunk: float | None = None

    @property
    def standard_error_nats_per_token(self) -> float | None:
        """Return the standard error per token, the number of tokens taken as given."""
        return self._per(self.nll_nats_per_token)

    @property
    def standard_error_nats_per_value(self) -> float | None:
        """Return the standard error per action value."""
        return self._per(self.nll_nats_per_value)

    def _per(self, nll: float | None) -> float | None:
        error = self.standard_error_nats_per_chunk
        if nll is None or error is None or not self.nll_nats_per_chunk:
            return None
        return error * nll / self.nll_nats_per_chunk


@dataclass(frozen=True)
class RunSummary:
    """Everything a report says about one run; what the run folder lacks is None or empty.

    Attributes:
        name: of the run's folder, made unique by ``read_runs``.
        folder: where it is.
        family: the factorization's name.
        exact: its NLL is the likelihood (True) or an upper bound (False); None where it has none.
        settings: ``train_config.json``.
        params: trained parameters of the policy.
        train_episodes: demonstrations trained on.
        validation_episodes: demonstrations held out.
        train_frames: frames trained on.
        train_minutes: their duration.
        train_tokens: action tokens in them; None for continuous families.
        steps: optimiser steps logged so far; ``settings["steps"]`` were planned.
        final: the last validation.
        best: the best validation along the way, by NLL per chunk where there is one, else by loss. It was picked
            on the same episodes that score it, so it flatters; ``final`` is what reports compare.
        chunk_error: how far predicted chunks are from the held-out ones, in halves of an action's range in training.
        chunk_error_standard_error: of it, between held-out episodes; None with one episode.
        validations: all of them, by step.
        training: (step, training loss) by step.
        rollouts: closed-loop success; None without any.
        videos: films of episodes.
    """

    name: str
    folder: Path
    family: str
    exact: bool | None
    settings: dict[str, Any] = field(repr=False)
    params: int | None = None
    train_episodes: int | None = None
    validation_episodes: int | None = None
    train_frames: int | None = None
    train_minutes: float | None = None
    train_tokens: int | None = None
    steps: int = 0
    final: Score | None = None
    best: Score | None = None
    chunk_error: float | None = None
    chunk_error_standard_error: float | None = None
    validations: tuple[Score, ...] = field(default=(), repr=False)
    training: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    rollouts: Rollouts | None = None
    videos: tuple[Video, ...] = field(default=(), repr=False)

    @property
    def label(self) -> str:
        """Return the name, with the family where the name does not say it."""
        return self.name if self.family in self.name else f"{self.name} ({self.family})"

    @property
    def finished(self) -> bool:
        """Whether the run took all the steps it was set to take."""
        return self.steps >= int(self.settings.get("steps", 0))


def read_run(folder: str | Path) -> RunSummary:
    """Read a run folder, finished or not, with or without rollouts.

    Raises:
        ConfigError: the folder is no run, one of its files is damaged, or its factorization is not installed.
    """
    folder = Path(folder).resolve()
    if not (folder / TRAIN_CONFIG).is_file():
        raise ConfigError("run", str(folder), f"a run's folder, which has {TRAIN_CONFIG}")
    settings = read_settings(folder / TRAIN_CONFIG)
    family = settings["factorization"]["type"]
    data: dict[str, Any] = {}
    if (folder / "data.json").is_file():
        data = read_json(folder / "data.json", ConfigError)
        checked(DATA_FIELDS, data, folder / "data.json", ConfigError)
    try:
        lines = read_metrics(folder)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error
    validations = tuple(_score(line) for line in lines if "val_loss" in line)
    errors = next((line for line in reversed(lines) if "chunk_error" in line), {})
    return RunSummary(
        name=folder.name,
        folder=folder,
        family=family,
        exact=is_exact(family),
        settings=settings,
        params=data.get("params"),
        train_episodes=data.get("train_episodes"),
        validation_episodes=data.get("validation_episodes"),
        train_frames=data.get("train_frames"),
        train_minutes=data.get("train_minutes"),
        train_tokens=data.get("train_action_tokens"),
        steps=max((int(line["step"]) for line in lines), default=0),
        final=validations[-1] if validations else None,
        best=min(validations, key=_rank, default=None),
        chunk_error=errors.get("chunk_error"),
        chunk_error_standard_error=errors.get("chunk_error_standard_error"),
        validations=validations,
        training=tuple((line["step"], line["train_loss"]) for line in lines if "train_loss" in line),
        rollouts=read_rollouts(folder, settings) or rollouts_in_training(lines, settings),
        videos=find_videos(folder),
    )


def read_runs(folders: Iterable[str | Path]) -> list[RunSummary]:
    """Read several runs, each once, and name them apart: by parent folder, too, where names are the same.

    Raises:
        ConfigError: none given, or as ``read_run``.
    """
    runs = [read_run(folder) for folder in dict.fromkeys(Path(folder).resolve() for folder in folders)]
    if not runs:
        raise ConfigError("runs", [], "at least one run's folder")
    return _named_apart(runs)


def read_settings(path: Path) -> dict[str, Any]:
    """Return a run's settings, those that a report uses checked.

    Raises:
        ConfigError: the file is damaged, or its factorization is not installed.
    """
    settings = read_json(path, ConfigError)
    checked(SETTINGS_FIELDS, settings, path, ConfigError)
    checked({"type": str}, settings["factorization"], path, ConfigError)
    checked({"episodes": int | None}, settings.get("rollout") or {}, path, ConfigError)
    try:
        is_exact(settings["factorization"]["type"])
    except ConfigError as wrong:
        raise ConfigError(f"{path}: {wrong}") from wrong
    return settings


@lru_cache
def is_exact(family: str) -> bool | None:
    """Return what the factorization's class says about its NLL.

    >>> is_exact("autoregressive"), is_exact("masked_diffusion"), is_exact("regression")
    (True, False, None)
    """
    return FactorizationConfig.named(family).build().exact


def _score(line: dict[str, Any]) -> Score:
    return Score(
        step=line["step"],
        loss=line["val_loss"],
        nll_nats_per_chunk=line.get("val_nll_nats_per_chunk"),
        nll_nats_per_token=line.get("val_nll_nats_per_token"),
        nll_nats_per_value=line.get("val_nll_nats_per_value"),
        standard_error_nats_per_chunk=line.get("val_nll_standard_error"),
    )


def _rank(score: Score) -> float:
    value = score.loss if score.nll_nats_per_chunk is None else score.nll_nats_per_chunk
    return value if math.isfinite(value) else math.inf


def _named_apart(runs: Sequence[RunSummary]) -> list[RunSummary]:
    depth = {run.folder: 1 for run in runs}
    while True:
        names = {folder: "/".join(folder.parts[-count:]) for folder, count in depth.items()}
        counts = Counter(names.values())
        clashing = [folder for folder, name in names.items() if counts[name] > 1]
        if not clashing:
            return [replace(run, name=names[run.folder]) for run in runs]
        for folder in clashing:
            depth[folder] += 1
