"""From a dataset's settings to chunks of training and of held-out episodes."""

from collections.abc import Callable, Sequence

from lerobot.utils.constants import ACTION

from anyorder.datasets.read.cameras import Progress
from anyorder.datasets.read.chunks import OBSERVATION, ActionChunks
from anyorder.datasets.read.episodes import OWN, EpisodeChoice, Remedies
from anyorder.datasets.read.folder import DatasetInfo, read_info, resolve_root
from anyorder.datasets.read.mixture import mix
from anyorder.datasets.read.remarks import remarks, unit_remarks
from anyorder.errors import ConfigError, did_you_mean
from anyorder.training.config import DatasetConfig

MIXED = Remedies("exclude_episodes=[{0}] in its entry of dataset.mix leaves it out")
"""The remedies where several datasets are mixed."""


def load_chunks(
    config: DatasetConfig,
    horizon: int,
    history: int = 1,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    features: Sequence[str] | None = None,
    remedies: Remedies | None = None,
) -> tuple[ActionChunks, ActionChunks]:
    """Read a dataset and split it by episodes into (train, held out).

    Args:
        config: which dataset, and which of its features; cameras are read if ``observations`` names them.
        horizon: actions in a chunk.
        history: frames of every observation.
        progress: called with (finished, wanted) while camera frames are decoded into memory.
        tell: called with each remark on the data, one line.
        features: low-dimensional features to read, where a dataset has them; as ``config`` says when None.
        remedies: of whoever reads, for messages; those of ``config``'s own settings when None.
    """
    infos = dataset_infos(config)
    offered = {key for i in infos for key in (*i.vectors, *i.cameras) if key.startswith(OBSERVATION)}
    for name in config.observations:
        if name not in offered:
            allowed = (", ".join(sorted(offered)) or no_observation(infos[0])) + did_you_mean(name, offered)
            raise ConfigError("dataset.observations", name, allowed)
    if config.image_size is not None and not any(name in i.cameras for name in config.observations for i in infos):
        raise ConfigError("dataset.image_size", config.image_size, "null, as dataset.observations names no camera")
    remedies = remedies or (MIXED if config.mix else OWN)
    parts = [
        ActionChunks.load(
            info.root,
            horizon=horizon,
            features=vectors_read(config, info) if features is None else [f for f in features if f in info.vectors],
            history=history,
            images=[name for name in config.observations if name in info.cameras],
            image_size=config.image_size,
            allow_short=config.allow_short,
            choice=EpisodeChoice(entry.episodes, config.seed, entry.exclude_episodes, remedies),
            rename=entry.rename,
            tolerance_s=config.tolerance_s,
        )
        for entry, info in zip(config.entries, infos, strict=True)
    ]
    if tell is not None:
        for part in parts:
            for remark in remarks(part):
                tell(f"note: {part.info.root}: {remark}")
    chunks = parts[0]
    if config.mix:
        weights = [entry.weight for entry in config.entries]
        chunks = mix(parts, weights, config.missing_cameras, config.ignore_names)
        if tell is not None:
            for remark in unit_remarks(parts):
                tell(f"note: {remark}")
    chunks.cache(config.cache_gb, progress)
    return chunks.split(config.validation_fraction, config.seed)


def dataset_infos(config: DatasetConfig) -> list[DatasetInfo]:
    """Return what each dataset says of itself, features renamed; one on the hub is downloaded if need be.

    Raises:
        DatasetError: there is none, it is damaged, or a renamed feature is not in it.
    """
    roots = [resolve_root(entry.root, entry.repo_id, images=bool(config.observations)) for entry in config.entries]
    field = "dataset.mix root" if config.mix else "dataset.root"
    setting = "dataset.mix rename" if config.mix else "dataset.rename"
    read = zip(roots, config.entries, strict=True)
    return [read_info(root, field).renamed(entry.rename, setting) for root, entry in read]


def vectors_read(config: DatasetConfig, info: DatasetInfo) -> list[str]:
    """Return the low-dimensional features to read of a dataset: the observations asked for, or all of them."""
    wanted = config.observations or [name for name in info.vectors if name.startswith(OBSERVATION)]
    return [name for name in wanted if name in info.vectors]


def no_observation(info: DatasetInfo) -> str:
    """Return what a dataset without observations needs, in words."""
    others = [key for key in (*info.vectors, *info.cameras) if key != ACTION]
    hint = f", as dataset.rename={{{others[0]}: {OBSERVATION}{others[0]}}} gives one" if others else ""
    return f"features whose names begin with {OBSERVATION}{hint}"
