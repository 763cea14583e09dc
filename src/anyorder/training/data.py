"""From a dataset's settings to chunks, a policy made for them, and the order in which they are visited."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_ENV_STATE
from torch import Tensor

from anyorder.datasets.cameras import Progress
from anyorder.datasets.chunks import ActionChunks
from anyorder.datasets.folder import read_info, resolve_root
from anyorder.errors import ConfigError, bad_value, did_you_mean
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit_to_chunks
from anyorder.training.config import DatasetConfig, TrainConfig


def load_chunks(
    config: DatasetConfig, horizon: int, history: int = 1, progress: Progress | None = None
) -> tuple[ActionChunks, ActionChunks]:
    """Read a dataset and split it by episodes into (train, validation).

    Args:
        config: which dataset, and which of its features; cameras are read if ``observations`` names them.
        horizon: actions in a chunk.
        history: frames of every observation.
        progress: called with (finished, wanted) while camera frames are decoded into memory.
    """
    root = resolve_root(config.root, config.repo_id, images=bool(config.observations))
    info = read_info(root)
    offered = [name for name in [*info.vectors, *info.cameras] if name.startswith("observation.")]
    for name in config.observations:
        if name not in offered:
            allowed = ", ".join(offered) + did_you_mean(name, offered)
            raise ConfigError(bad_value("dataset.observations", name, allowed))
    chunks = ActionChunks.load(
        root,
        horizon=horizon,
        episodes=config.episodes,
        seed=config.seed,
        history=history,
        images=[name for name in config.observations if name in info.cameras],
        image_size=config.image_size,
        cache_gb=config.cache_gb,
        progress=progress,
        allow_short=config.allow_short,
    )
    return chunks.split(config.validation_fraction, config.seed)


def make_policy(config: TrainConfig, chunks: ActionChunks) -> AnyOrderPolicy:
    """Make a fresh policy for a dataset: features, normalisation and tokenizer come from ``chunks``."""
    policy_config = AnyOrderConfig(
        input_features={name: feature(name, shape) for name, shape in observations(config, chunks).items()},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, chunks.shapes[ACTION])},
        device=config.device,
        chunk_size=config.chunk_size,
        n_action_steps=config.n_action_steps,
        n_obs_steps=config.n_obs_steps,
        factorization=config.factorization.choice,
        factorization_options=config.factorization.options(),
        tokenizer=config.tokenizer.choice,
        tokenizer_options=config.tokenizer.options(),
        network=config.network,
        # A copy: fitting fills in what depends on the data.
        encoder=replace(config.encoder),
        relative_actions=config.relative_actions,
        observation_noise=config.observation_noise,
        context_dropout=config.context_dropout,
        temperature=config.temperature,
        nucleus=config.nucleus,
        guidance=config.guidance,
        optimizer_lr=config.optimizer.lr,
        optimizer_weight_decay=config.optimizer.weight_decay,
        push_to_hub=False,
    )
    return AnyOrderPolicy(policy_config, fit_to_chunks(policy_config, chunks))


def observations(config: TrainConfig, chunks: ActionChunks) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the observations the policy shall read."""
    offered = {name: shape for name, shape in chunks.shapes.items() if name.startswith("observation.")}
    for name in config.dataset.observations:
        if name not in offered:
            allowed = ", ".join(offered) + did_you_mean(name, offered)
            raise ConfigError(bad_value("dataset.observations", name, allowed))
    return {name: offered[name] for name in config.dataset.observations or offered}


def feature(name: str, shape: tuple[int, ...]) -> PolicyFeature:
    """Return LeRobot's description of an observation."""
    kind = FeatureType.VISUAL if len(shape) == 3 else FeatureType.STATE
    kind = FeatureType.ENV if name == OBS_ENV_STATE else kind
    return PolicyFeature(kind, shape)


class BatchOrder:
    """Which frames a step sees, as a function of (seed, step) alone, so that resuming is exact.

    Epoch e visits every frame once, in an order drawn from (seed, e); batches run on across epochs.

    Args:
        frames: number of frames.
        batch_size: frames per step.
        seed: of the orders.
    """

    def __init__(self, frames: int, batch_size: int, seed: int) -> None:
        self.frames = frames
        self.batch_size = batch_size
        self.seed = seed
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def rows(self, step: int) -> Tensor:
        """Return the frames of a step, counted from 0: (batch size,) int64."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs = places // self.frames
        rows = [self._epoch(int(e))[places[epochs == e] % self.frames] for e in epochs.unique()]
        return torch.cat(rows)

    def _draw_epoch(self, epoch: int) -> Tensor:
        return torch.randperm(self.frames, generator=seeded("cpu", self.seed, 1, epoch))


def seeded(device: torch.device | str, *key: int) -> torch.Generator:
    """Return a generator whose stream is a function of the key, well mixed."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> 1))
