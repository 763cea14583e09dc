"""What rollouts found: one record an episode, and their summary with an interval."""

import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from anyorder.files import append_line, write_json
from anyorder.rollouts.statistics import CONFIDENCE, wilson_interval

EPISODES = "episodes.jsonl"
ON_DISK = {"return_": "return", "calls": "forwards"}
"""The names that these numbers of an episode have in ``episodes.jsonl``."""


@dataclass(frozen=True)
class EpisodeResult:
    """One episode; ``seed`` reset its environment, ``return_`` is the sum of its rewards, ``max_reward`` the best.

    Both are 0 where no step gave a reward. ``chunk_latency_ms`` is the median wall time of the policy calls it took
    part in (a call may serve many episodes at once; None if it took part in none), ``calls`` the network calls of
    these calls, None if the policy does not count them. ``reason`` says why an episode was ended as failed: a number
    that was not finite.
    """

    index: int
    seed: int
    success: bool
    return_: float
    max_reward: float
    length: int
    chunk_latency_ms: float | None
    calls: int | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready line of ``episodes.jsonl``."""
        line = {ON_DISK.get(key, key): value for key, value in asdict(self).items()}
        return {key: value for key, value in line.items() if value is not None}


@dataclass
class RolloutResult:
    """All episodes of a rollout, by index, how they were made (``settings``), and their wall time in s."""

    episodes: list[EpisodeResult] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def successes(self) -> int:
        """Return the number of successful episodes."""
        return sum(episode.success for episode in self.episodes)

    @property
    def not_finite(self) -> int:
        """Return the number of episodes that ended as failed because a number was not finite."""
        return sum(episode.reason is not None for episode in self.episodes)

    @property
    def success_rate(self) -> float:
        """Return the share of successful episodes."""
        return self.successes / len(self.episodes)

    @property
    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the success rate."""
        return wilson_interval(self.successes, len(self.episodes))

    @property
    def mean_length(self) -> float:
        """Return the mean number of steps."""
        return statistics.fmean(episode.length for episode in self.episodes)

    @property
    def mean_return(self) -> float:
        """Return the mean sum of rewards."""
        return statistics.fmean(episode.return_ for episode in self.episodes)

    @property
    def mean_max_reward(self) -> float:
        """Return the mean over episodes of the best reward of a step: of PushT the largest coverage."""
        return statistics.fmean(episode.max_reward for episode in self.episodes)

    @property
    def chunk_latency_ms(self) -> float | None:
        """Return the median over episodes of their latency; None if none has one."""
        found = [e.chunk_latency_ms for e in self.episodes if e.chunk_latency_ms is not None]
        return statistics.median(found) if found else None

    def summary(self) -> dict[str, Any]:
        """Return the JSON-ready content of ``summary.json``."""
        return {
            **self.settings,
            "episodes": len(self.episodes),
            "successes": self.successes,
            "not_finite": self.not_finite,
            "success_rate": self.success_rate,
            "success_interval": list(self.interval),
            "interval": f"Wilson, {CONFIDENCE:.0%}",
            "mean_length": self.mean_length,
            "mean_return": self.mean_return,
            "mean_max_reward": self.mean_max_reward,
            "chunk_latency_ms": self.chunk_latency_ms,
            "seconds": round(self.seconds, 3),
        }


class ResultWriter:
    """Writes ``episodes.jsonl`` line by line and ``summary.json`` at the end into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, episode: EpisodeResult) -> None:
        """Append an episode to ``episodes.jsonl``."""
        append_line(self.folder / EPISODES, episode.to_dict())

    def finish(self, result: RolloutResult) -> None:
        """Write the summary; its presence says that the rollout is complete."""
        write_json(self.folder / "summary.json", result.summary())
