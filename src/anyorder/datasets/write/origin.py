"""Where a recorded dataset came from: the environment, its expert and the seed of every episode."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from anyorder.envs.base import EnvConfig
from anyorder.errors import ConfigError, DatasetError
from anyorder.files import read_json, write_json
from anyorder.settings import TYPE_KEY, convert, from_plain, to_plain

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
        # Through JSON once, so that tuples compare equal to what a file gives back.
        env = json.loads(json.dumps(to_plain(env_config)))
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
        plain = read_json(path, DatasetError)
        try:
            found: Self = from_plain(cls, plain)
            if "choice" in found.env:  # as an earlier version wrote it
                options = convert(dict[str, Any], found.env.get("options"), "env.options")
                found.env = {TYPE_KEY: found.env["choice"], **options}
            convert(str, found.env.get(TYPE_KEY), f"env.{TYPE_KEY}")
            for i, episode in enumerate(found.episodes):
                convert(int, episode.get("seed"), f"episodes[{i}].seed")
                convert(bool, episode.get("success"), f"episodes[{i}].success")
        except (ConfigError, TypeError) as error:
            # A TypeError names what is missing.
            raise DatasetError(f"{path}: {error}") from error
        return found

    def save(self, root: Path) -> None:
        """Write it into the dataset folder ``root``."""
        write_json(root / ORIGIN_PATH, asdict(self))

    def env_config(self) -> EnvConfig:
        """Return the environment's settings, ready to build.

        Raises:
            ConfigError: the environment is not known to this version.
        """
        import anyorder.envs  # noqa: F401  (its members join EnvConfig when imported)

        return from_plain(EnvConfig, self.env, "env")

    @property
    def next_seed(self) -> int:
        """Return the first seed that no recorded episode has used."""
        return self.episodes[-1]["seed"] + 1 if self.episodes else self.seed

    @classmethod
    def shared_env(cls, roots: Iterable[Path]) -> EnvConfig | None:
        """Return the environment that the datasets in ``roots`` were recorded in; None if unknown, or not one.

        Raises:
            DatasetError: see ``load``.
            ConfigError: see ``env_config``.
        """
        origins = [cls.load(root) for root in roots]
        first = origins[0]
        if first is None or any(origin is None or origin.env != first.env for origin in origins):
            return None
        return first.env_config()
