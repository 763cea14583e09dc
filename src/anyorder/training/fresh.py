"""A fresh policy for a dataset."""

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION, OBS_ENV_STATE

from anyorder.datasets.read.chunks import OBSERVATION, ActionChunks
from anyorder.errors import ConfigError
from anyorder.networks.policy_settings import PolicySettings
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit_to_chunks
from anyorder.settings import part_of, to_plain
from anyorder.training.config import TrainConfig
from anyorder.training.data import no_observation


def make_policy(config: TrainConfig, chunks: ActionChunks) -> AnyOrderPolicy:
    """Make a fresh policy for a dataset: features, normalization and tokenizer come from ``chunks``."""
    settings = policy_config(config, chunks)
    return AnyOrderPolicy(settings, fit_to_chunks(settings, chunks))


def policy_config(config: TrainConfig, chunks: ActionChunks) -> AnyOrderConfig:
    """Return the settings of a policy for a dataset, nothing fitted yet."""
    return AnyOrderConfig(
        input_features={name: feature(name, shape) for name, shape in observations(config, chunks).items()},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, chunks.shapes[ACTION])},
        device=config.device,
        factorization=to_plain(config.factorization),
        tokenizer=to_plain(config.tokenizer),
        **vars(part_of(PolicySettings, config)),
        optimizer_lr=config.optimizer.lr,
        optimizer_weight_decay=config.optimizer.weight_decay,
        push_to_hub=False,
    )


def observations(config: TrainConfig, chunks: ActionChunks) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the observations the policy shall read."""
    offered = {name: shape for name, shape in chunks.shapes.items() if name.startswith(OBSERVATION)}
    if not offered:
        raise ConfigError("dataset features", list(chunks.info.features), no_observation(chunks.info))
    return {name: offered[name] for name in config.dataset.observations or offered}


def feature(name: str, shape: tuple[int, ...]) -> PolicyFeature:
    """Return LeRobot's description of an observation."""
    kind = FeatureType.VISUAL if len(shape) == 3 else FeatureType.STATE
    kind = FeatureType.ENV if name == OBS_ENV_STATE else kind
    return PolicyFeature(kind, shape)
