"""Settings of the policy, as LeRobot stores them in ``config.json``."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub.constants import CONFIG_NAME
from lerobot.configs import FeatureType, NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import OBS_STATE

from anyorder.devices import device_here
from anyorder.envs.features import flat_shape
from anyorder.errors import ConfigError, check_number
from anyorder.factorization import FactorizationConfig, check_sampling
from anyorder.networks import ObservationSpec
from anyorder.networks.policy_settings import PolicySettings
from anyorder.networks.transformer import MAX_SIZE
from anyorder.settings import TYPE_KEY, completed, dotted, from_plain, part_of, setting, to_plain
from anyorder.settings.plain import check_settings
from anyorder.sums import read_sums, update_sums
from anyorder.tokenizers import TokenizerConfig

MEMBERS = ("factorization", "tokenizer")
"""The fields that hold a member of a family, as ``{type: name, ...}``."""

USUAL_TOKENIZER = {TYPE_KEY: "dct"}


@PreTrainedConfig.register_subclass("anyorder")
@dataclass
class AnyOrderConfig(PolicySettings, PreTrainedConfig):
    """One policy; the factorization is a setting, as are those of ``PolicySettings``."""

    device: str | None = None  # LeRobot's; the one there is when null
    factorization: Any = setting(
        {TYPE_KEY: "autoregressive"},
        "Its name under type, and its settings; fitting.fit adds those that are left out. A name alone, as of a "
        "command line, is taken, too.",
    )
    factorization_options: dict[str, Any] = setting(
        {},
        "Settings by name that go into factorization: they add to what is given there, and change what a fitted policy "
        "has; none after that.",
    )
    tokenizer: Any = setting(
        USUAL_TOKENIZER, "Likewise, of the tokenizer (see anyorder tokenize); continuous factorizations use none."
    )
    tokenizer_options: dict[str, Any] = setting({}, "Settings by name that go into tokenizer.")
    tokenizer_spec: dict[str, Any] | None = setting(None, "Sizes of the fitted tokenizer; filled by fitting.fit.")
    tasks: list[str] = setting([], "Sentences of the training data; filled by fitting.fit.")
    text_size: int = setting(0, "Numbers the task's text encoder gives; filled by fitting.fit.", least=0, most=MAX_SIZE)
    action_reference: list[int] = setting(
        [],
        "For each action dimension, which dimension of observation.state it is predicted relative to, or -1; empty "
        "for all absolute. Filled by fitting.fit.",
    )
    fps: float | None = setting(
        None, "Control rate of the training data in Hz; filled by fitting.fit.", above=0, most=MAX_SIZE
    )
    dimension_names: dict[str, list[str]] = setting(
        {}, "What the dimensions of a feature are called, for messages; filled by fitting.fit."
    )
    optimizer_lr: float = setting(3e-3, "Peak learning rate.", above=0)
    optimizer_weight_decay: float = setting(0.1, "Weight decay of AdamW.", least=0)
    normalization_mapping: dict[str, NormalizationMode] = setting(
        {
            "STATE": NormalizationMode.MEAN_STD,
            "ENV": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MIN_MAX,
            "VISUAL": NormalizationMode.IDENTITY,
        },
        "How each kind of feature is normalized, with exact statistics. Actions default to MIN_MAX: for joint targets "
        "the extremes are the reach itself, which quantiles would clip.",
    )

    def __post_init__(self) -> None:
        # LeRobot would warn of None, and takes any number of a GPU.
        self.device = device_here(self.device)
        for name in MEMBERS:
            chosen, options = member(name, getattr(self, name)), getattr(self, f"{name}_options")
            check_settings(options, f"{name}_options")
            # Of a policy that was fitted all are there already, to be changed.
            if self.fps is None:
                check_agreement(name, chosen, options)
            setattr(self, name, chosen | options)
            setattr(self, f"{name}_options", {})
        PreTrainedConfig.__post_init__(self)
        self.check()

    def check(self) -> None:
        """Check every setting that needs no data.

        Raises:
            ConfigError: a setting has a value it cannot have.
        """
        super().__post_init__()
        for name, feature in {**(self.input_features or {}), **(self.output_features or {})}.items():
            for size in feature.shape:
                check_number(f"shape of {name}", size, 1, MAX_SIZE, whole=True)
        for name, settings in (("network", asdict(self.network)), ("encoder", asdict(self.encoder))):
            check_sizes(name, settings)
        check_sizes("tokenizer_spec", self.tokenizer_spec or {})
        visual = self.normalization_mapping.get("VISUAL", NormalizationMode.IDENTITY)
        if visual is not NormalizationMode.IDENTITY:
            allowed = "IDENTITY, as cameras are brought to [-1, 1] by themselves"
            raise ConfigError("normalization_mapping.VISUAL", visual.value, allowed)
        self.factorization_config().build()
        self.tokenizer_config()

    def check_unfitted(self) -> None:
        """Refuse settings that are not the default's and have no effect with the factorization.

        Raises:
            ConfigError: names one.
        """
        family = self.factorization_config()
        check_sampling(self.temperature, self.nucleus, self.guidance, family)
        given, usual = (dotted(to_plain(part_of(PolicySettings, each))) for each in (self, PolicySettings()))
        asked = {name: value for name, value in given.items() if value != usual[name]}
        if self.tokenizer != USUAL_TOKENIZER:
            asked["tokenizer"] = self.tokenizer
        self.check_idle(asked, family)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write ``config.json``, of each chosen member one form; where its digest is listed, the list follows."""
        super()._save_pretrained(save_directory)
        path = save_directory / CONFIG_NAME
        plain = json.loads(path.read_text())
        for name in MEMBERS:
            del plain[f"{name}_options"]
        path.write_text(json.dumps(plain, indent=4))
        if CONFIG_NAME in read_sums(save_directory):
            update_sums(save_directory, [CONFIG_NAME])

    def factorization_config(self) -> FactorizationConfig:
        """Return the factorization's settings.

        A policy that was fitted names all of them; where one of an earlier version does not, it means those of then.
        """
        plain = self.factorization
        if self.fps is not None:
            plain = completed(FactorizationConfig, plain, "factorization")
        return cast(FactorizationConfig, from_plain(FactorizationConfig, plain, "factorization"))

    def tokenizer_config(self) -> TokenizerConfig:
        """Return the tokenizer's settings."""
        return cast(TokenizerConfig, from_plain(TokenizerConfig, self.tokenizer, "tokenizer"))

    def validate_features(self) -> None:
        """Check that there is an action to predict and an observation to predict it from."""
        if self.action_feature is None:
            raise ConfigError("output_features", list(self.output_features or {}), "action")
        if not self.observation_spec.names:
            allowed = "at least one observation.* of numbers, a camera or a point cloud"
            raise ConfigError("input_features", list(self.input_features or {}), allowed)
        if self.action_reference:
            state = self.observation_spec.vectors.get(OBS_STATE, 0)
            fits = len(self.action_reference) == self.action_size
            if not fits or not all(-1 <= i < state for i in self.action_reference):
                allowed = f"{self.action_size} numbers, each -1 or below the {state} dimensions of {OBS_STATE}"
                raise ConfigError("action_reference", self.action_reference, allowed)

    @property
    def observation_spec(self) -> ObservationSpec:
        """What is observed: vectors, cameras (channels, height, width) and point clouds (points, size)."""
        vectors, cameras, clouds = {}, {}, {}
        for name, feature in (self.input_features or {}).items():
            shape = tuple(feature.shape)
            if feature.type is FeatureType.VISUAL:
                cameras[name] = shape
                continue
            shape = flat_shape(name, shape)
            if len(shape) == 1:
                vectors[name] = shape[0]
            else:
                clouds[name] = shape[1]
        return ObservationSpec(vectors, cameras, clouds, self.tasks, self.n_obs_steps, self.text_size)

    @property
    def action_size(self) -> int:
        """Dimensions of an action."""
        assert self.action_feature is not None  # validate_features has been called
        return math.prod(self.action_feature.shape)

    @property
    def observation_delta_indices(self) -> list[int] | None:
        """The moments observed, the present one last; None, which adds no axis of time, for the present alone."""
        return None if self.n_obs_steps == 1 else list(range(1 - self.n_obs_steps, 1))

    @property
    def action_delta_indices(self) -> list[int]:
        """The chunk starts at the current frame."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """Rewards are not used."""
        return

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW with the betas of arXiv 2507.15857."""
        return AdamWConfig(
            lr=self.optimizer_lr, betas=(0.9, 0.95), weight_decay=self.optimizer_weight_decay, grad_clip_norm=1.0
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Warm-up, then a cosine to a tenth; LeRobot stretches it to the run's length."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=1_000, num_decay_steps=100_000, peak_lr=self.optimizer_lr, decay_lr=self.optimizer_lr / 10
        )


def member(name: str, chosen: Any) -> dict[str, Any]:
    """Return a chosen member of a family as ``{type: name, ...}``, also where its name alone is given.

    Raises:
        ConfigError: it is neither; ``name`` is what a message calls it.

    >>> member("tokenizer", "fast"), member("tokenizer", {"type": "fast", "scale": 10.0})
    ({'type': 'fast'}, {'type': 'fast', 'scale': 10.0})
    """
    if isinstance(chosen, str):
        return {TYPE_KEY: chosen}
    check_settings(chosen, name)
    return dict(chosen)


def check_agreement(name: str, chosen: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse options that say something else than the settings they go into.

    Raises:
        ConfigError: a setting has two values; it is named.

    >>> check_agreement("factorization", {"type": "masked_diffusion", "steps": 4}, {"steps": 8})
    Traceback (most recent call last):
    anyorder.errors.ConfigError: factorization_options.steps: 8 given, allowed: 4, as in factorization
    """
    for key, value in options.items():
        if key in chosen and chosen[key] != value:
            raise ConfigError(f"{name}_options.{key}", value, f"{chosen[key]!r}, as in {name}")


def check_sizes(field: str, given: Any) -> None:
    """Check that every number in a setting, however nested, is finite and no larger than ``MAX_SIZE``.

    Raises:
        ConfigError: one is not; it is named.
    """
    if isinstance(given, dict):
        for name, value in given.items():
            check_sizes(f"{field}.{name}", value)
    elif isinstance(given, list | tuple):
        for value in given:
            check_sizes(field, value)
    elif not isinstance(given, str | bool | None):
        check_number(field, given, -MAX_SIZE, MAX_SIZE)
