"""The closed-loop part of a run folder: successes, latency, network passes, films."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anyorder.errors import ConfigError, bad_value
from anyorder.files import read_json, read_lines
from anyorder.rollouts.statistics import wilson_interval
from anyorder.settings import TYPE_KEY, checked

FOLDER = "rollout"
SUMMARY_FIELDS = {
    "successes": int,
    "episodes": int,
    "n_action_steps": int | None,
    "chunk_latency_ms": float | None,
    "single_chunk_latency_ms": float | None,
    "batch_size": int | None,
    "env": dict[str, Any] | None,
    "seed": int | None,
}
EPISODE_FIELDS = {"index": int, "seed": int | None, "success": bool, "length": int, "forwards": int | None}


@dataclass(frozen=True)
class Rollouts:
    """How often a policy succeeded, and what its chunks cost.

    Attributes:
        successes: successful episodes.
        episodes: all episodes.
        interval: Wilson's 95 % interval of the success rate.
        during_training: measured by the training loop at its last rollout, not by a rollout of its own.
        chunk_latency_ms: median over episodes of the median wall time of a policy call.
        latency_batch: episodes served by such a call at the start; None if not recorded.
        calls_per_chunk: mean network calls per policy call; None if not recorded.
        settings: environment and the first seed, as far as recorded.
        outcomes: success by the episode's reset seed; empty unless all episodes are recorded with theirs.
    """

    successes: int
    episodes: int
    interval: tuple[float, float]
    during_training: bool = False
    chunk_latency_ms: float | None = None
    latency_batch: int | None = None
    calls_per_chunk: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[int, bool] = field(default_factory=dict, repr=False)

    @property
    def rate(self) -> float:
        """Return the share of successful episodes."""
        return self.successes / self.episodes

    def overlaps(self, other: "Rollouts") -> bool:
        """Whether the two intervals share a point."""
        return self.interval[0] <= other.interval[1] and other.interval[0] <= self.interval[1]


@dataclass(frozen=True)
class Video:
    """The film of one episode; ``episode`` and ``success`` are None where the file's name does not tell."""

    path: Path
    episode: int | None = None
    success: bool | None = None

    @property
    def caption(self) -> str:
        """Return what it shows in a few words."""
        if self.episode is None:
            return self.path.stem
        result = {True: ", success", False: ", failure", None: ""}[self.success]
        return f"episode {self.episode}{result}"


def read_rollouts(run: Path, settings: dict[str, Any]) -> Rollouts | None:
    """Return the run's finished rollout; None without one.

    An unfinished one does not count: successful episodes tend to be short, so those that ended first flatter.

    Raises:
        ConfigError: its files are damaged.
    """
    if not (run / FOLDER / "summary.json").is_file():
        return None
    summary = read_summary(run / FOLDER)
    successes, episodes = summary["successes"], summary["episodes"]
    interval = wilson_interval(successes, episodes)
    per_chunk = summary.get("n_action_steps", settings.get("n_action_steps"))
    # One episode at a time is what a robot waits for; rollouts from Python may know only the time of batches.
    single_ms = summary.get("single_chunk_latency_ms")
    lines = read_episodes(run)
    return Rollouts(
        successes,
        episodes,
        interval,
        chunk_latency_ms=summary.get("chunk_latency_ms") if single_ms is None else single_ms,
        latency_batch=summary.get("batch_size") if single_ms is None else 1,
        calls_per_chunk=calls_per_chunk(lines, per_chunk),
        settings={key: summary[key] for key in ("env", "seed") if key in summary},
        outcomes=outcomes_by_seed(lines) if len(lines) == episodes else {},
    )


def read_summary(folder: Path) -> dict[str, Any]:
    """Return ``summary.json`` of a rollout's folder, each field checked.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / "summary.json"
    summary = read_json(path, ConfigError)
    if isinstance(name := summary.get("env"), str) and isinstance(options := summary.pop("options", {}), dict):
        summary["env"] = {TYPE_KEY: name, **options}  # as an earlier version wrote it
    checked(SUMMARY_FIELDS, summary, path, ConfigError)
    if not 0 <= summary["successes"] <= summary["episodes"] or summary["episodes"] < 1:
        allowed = f"0 to episodes = {summary['episodes']}, at least 1"
        raise ConfigError(f"{path}: {bad_value('successes', summary['successes'], allowed)}")
    return summary


def rollouts_in_training(lines: Sequence[dict[str, Any]], settings: dict[str, Any]) -> Rollouts | None:
    """Return the last success rate in ``metrics.jsonl`` with its counts; None without one."""
    rates = [line["success_rate"] for line in lines if "success_rate" in line]
    plan = settings.get("rollout") or {}
    episodes = plan.get("episodes", 0)
    if not rates or not episodes:
        return None
    if not 0 <= rates[-1] <= 1:
        raise ConfigError("success_rate in metrics.jsonl", rates[-1], "a share, 0 to 1")
    successes = round(rates[-1] * episodes)
    chosen = {key: plan[key] for key in ("env", "seed") if plan.get(key) is not None}
    return Rollouts(successes, episodes, wilson_interval(successes, episodes), during_training=True, settings=chosen)


def read_episodes(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``episodes.jsonl``; a half-written last line is skipped.

    Raises:
        ConfigError: another line is damaged.
    """
    path = run / FOLDER / "episodes.jsonl"
    if not path.is_file():
        return []
    lines = read_lines(path, ConfigError)
    for line in lines:
        checked(EPISODE_FIELDS, line, path, ConfigError)
    for key in ("index", "seed"):
        numbers = [line[key] for line in lines if line.get(key) is not None]
        if len(set(numbers)) < len(numbers):
            twice = max(numbers, key=numbers.count)
            raise ConfigError(f"{path}: {bad_value(key, twice, 'each episode once')}")
    return lines


def outcomes_by_seed(episodes: Sequence[dict[str, Any]]) -> dict[int, bool]:
    """Return success by the reset seed of each episode; empty if an episode does not say its seed.

    >>> outcomes_by_seed([{"seed": 7, "success": True}, {"seed": 8, "success": False}])
    {7: True, 8: False}
    """
    if any(line.get("seed") is None for line in episodes):
        return {}
    return {line["seed"]: line["success"] for line in episodes}


def calls_per_chunk(episodes: Sequence[dict[str, Any]], n_action_steps: int | None) -> float | None:
    """Return network calls per policy call over all episodes; None if an episode does not say.

    >>> calls_per_chunk([{"length": 9, "forwards": 20}, {"length": 8, "forwards": 10}], 8)
    10.0
    """
    if not n_action_steps or not episodes or any("forwards" not in line for line in episodes):
        return None
    calls = sum(math.ceil(line["length"] / n_action_steps) for line in episodes)
    return sum(line["forwards"] for line in episodes) / calls if calls else None


def find_videos(run: Path) -> tuple[Video, ...]:
    """Return the finished films of a run's rollout, by name."""
    success = {line["index"]: bool(line["success"]) for line in read_episodes(run)}
    videos = []
    for path in sorted((run / FOLDER / "videos").glob("*.mp4")):
        if path.name.endswith(".partial.mp4"):
            continue
        number = re.fullmatch(r"episode_(\d+)", path.stem)
        episode = int(number[1]) if number else None
        videos.append(Video(path, episode, None if episode is None else success.get(episode)))
    return tuple(videos)
