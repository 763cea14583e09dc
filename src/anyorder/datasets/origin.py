"""Where a recorded dataset came from: the environment, its expert and the seed of every episode."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from anyorder.envs.base import EnvConfig
from anyorder.errors import DatasetError, bad_value

ORIGIN_PATH = Path("meta") / "anyorder.json"


@dataclass
class Origin:
    """Contents of ``meta/anyorder.json``, written beside LeRobot's own metadata.

    ``episodes[i]`` holds the ``seed`` that episode ``i`` was reset with and whether the expert had
    ``success``.
    """

    env: dict[str, Any]
    expert: str
    seed: int
    only_successful: bool
    episodes: list[dict[str, Any]] = field(default_factory=list)
    format: int = 1

    @classmethod
    def of(cls, env_config: EnvConfig, *, seed: int, only_successful: bool) -> Self:
        """Describe a recording that is about to start."""
        env = {"choice": env_config.choice, "options": env_config.options()}
        # Through JSON once, so that tuples compare equal to what a file gives back.
        env = json.loads(json.dumps(env))
        return cls(env, type(env_config.expert()).__name__, seed, only_successful)

    @classmethod
    def load(cls, root: Path) -> Self | None:
        """Read it from the dataset folder ``root``; None for a dataset that something else recorded.

        Raises:
            DatasetError: the file is there but is not what ``save`` writes.
        """
        path = root / ORIGIN_PATH
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            message = bad_value(str(path), str(error), "the JSON that anyorder's recording writes")
            raise DatasetError(message) from error

    def save(self, root: Path) -> None:
        """Write it into the dataset folder ``root``."""
        path = root / ORIGIN_PATH
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def env_config(self) -> EnvConfig:
        """Return the environment's settings, ready to build.

        Raises:
            ConfigError: the environment is not known to this version.
        """
        import anyorder.envs  # noqa: F401  (its members join EnvConfig when imported)

        return EnvConfig.from_options(self.env["choice"], self.env["options"])

    @property
    def next_seed(self) -> int:
        """Return the first seed that no recorded episode has used."""
        return self.episodes[-1]["seed"] + 1 if self.episodes else self.seed


def recorded_in(roots: Sequence[Path]) -> EnvConfig | None:
    """Return the environment that these datasets were recorded in; None if it is not known, or not one."""
    origins = [Origin.load(root) for root in roots]
    first = origins[0]
    if first is None or any(origin is None or origin.env != first.env for origin in origins):
        return None
    return first.env_config()
