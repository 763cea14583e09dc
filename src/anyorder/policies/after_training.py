"""Which settings of a policy may differ from those it was trained with; all others are part of its weights."""

import json
from dataclasses import fields
from typing import Any

import draccus
from lerobot.configs import PreTrainedConfig

from anyorder.errors import ConfigError
from anyorder.factorization import DecodeConfig
from anyorder.factorization.families.analog_bits import AnalogBitsConfig
from anyorder.factorization.families.autoregressive import AutoregressiveConfig
from anyorder.factorization.families.embedding_diffusion import EmbeddingDiffusionConfig
from anyorder.factorization.families.flow_matching import FlowMatchingConfig
from anyorder.factorization.families.gaussian_diffusion import GaussianDiffusionConfig
from anyorder.factorization.families.masked_diffusion import MaskedDiffusionConfig
from anyorder.factorization.families.uniform_diffusion import UniformDiffusionConfig
from anyorder.factorization.unmasking import UnmaskingConfig
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.settings import dotted, to_plain

DECODE = tuple(f"decode.{field.name}" for field in fields(DecodeConfig))
EXECUTION = ("n_action_steps", "temperature", "nucleus", *DECODE, "blend", "guidance", "device", "use_amp")
FINE_TUNING = (
    "observation_noise",
    "repeats",
    "optimizer_lr",
    "optimizer_weight_decay",
    "network.dropout",
    "network.attention_dropout",
    "head.soft_targets",
    "head.soft_width",
    "head.expected_l1",
    "encoder.vision.jitter",
    "use_peft",
)
"""What more training may do otherwise. ``context_dropout`` and ``encoder.vision.dropout`` are not among it: guidance,
and doing without a camera, rely on their having been learnt."""
HUB = ("push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path", "pretrained_revision")
GIVEN_BY_LEROBOT = ("type", "output_features")
"""LeRobot puts the environment's or dataset's action there, and ``check_weights`` compares it."""
SAMPLING: dict[type, tuple[str, ...]] = {
    MaskedDiffusionConfig: ("refresh",),
    UnmaskingConfig: ("sampler", "steps", "sampling_schedule", "threshold", "remask_rate"),
    AutoregressiveConfig: ("ensemble", "token_masking", "lookahead"),
    GaussianDiffusionConfig: ("scheduler", "inference_steps"),
    FlowMatchingConfig: ("inference_steps",),
    AnalogBitsConfig: ("inference_steps",),
    EmbeddingDiffusionConfig: ("inference_steps",),
    UniformDiffusionConfig: ("auxiliary",),
}
"""Options of the factorizations that the weights do not depend on."""


def check_settings(config: AnyOrderConfig, trained: AnyOrderConfig) -> None:
    """Compare the settings a policy shall have with those it was saved with.

    Raises:
        ConfigError: names the first that differs and may not, as its weights or its tokens cannot follow.
    """
    given, saved = (settings(c) for c in (config, trained))
    for name in dict.fromkeys([*saved, *given]):
        if given.get(name) != saved.get(name):
            allowed = f"{saved.get(name)!r}, as the policy was trained with"
            raise ConfigError(name, given.get(name), allowed)


def settings(config: AnyOrderConfig) -> dict[str, Any]:
    """Return by dotted name the settings that training fixes."""
    free = {*EXECUTION, *FINE_TUNING, *HUB, *GIVEN_BY_LEROBOT}
    factorization = config.factorization_config()
    for family, names in SAMPLING.items():
        if isinstance(factorization, family):
            free |= {f"factorization.{name}" for name in names}
    plain: dict[str, Any] = json.loads(json.dumps(draccus.encode(config, PreTrainedConfig)))
    # What was not written out has its default.
    plain["factorization"] = json.loads(json.dumps(to_plain(factorization)))
    plain["tokenizer"] = json.loads(json.dumps(to_plain(config.tokenizer_config())))
    return {name: value for name, value in dotted(plain).items() if name not in free}
