"""LeRobot's own policies (0.6.1) behind the interfaces of our training loop and rollouts.

What is theirs: the policy class, its loss, its pre- and postprocessors, its class of optimiser with betas and weight
decay, the frames it leaves out at the end of an episode, its observation history and its ``select_action``. What is
ours, and the same for everybody: batches from memory, learning-rate schedule, averaged weights, budget.

Sizes are small enough for a CPU, and with them the learning rates are higher than the presets (1e-5 to 1e-4). Each was
chosen once by the policy's own loss on held-out episodes, on one task and before any rollout:
``peers.py --sweep --tasks metaworld_pick-place-v3 --budget samples=32000`` (500 steps) gave

| policy | 3e-4 | 1e-3 | 3e-3 | 1e-2 |
|---|---:|---:|---:|---:|
| act | 0.1232 | 0.0957 | 0.0962 | 0.5657 |
| diffusion | 0.1083 | 0.0722 | 0.0603 | 0.2196 |
| vqbet | 1479 | 1343 | 1302 | 1360 |
| multi_task_dit | 0.1524 | 0.0874 | 0.0549 | 0.0592 |

DiffusionPolicy keeps its default DDPM sampler, in 10 steps instead of 100: after 500 training steps the mean absolute
error on that task's held-out chunks, normalised, was 0.222 with 10 steps and 0.219 with 100; DDIM had 0.320 and 0.440.
"""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from peer_adapter import NO_IMAGE, NoImage, Peer, merge
from torch import Tensor

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.statistics import Statistics

HORIZON = 16
"""Actions in a chunk, for every policy but VQ-BeT, whose chunks are executed to their end."""
EXECUTED = 8
"""Actions executed before the next chunk, for every policy."""
STILL = 1e-6
"""A dimension whose range is below this part of its size counts as constant."""
UNSEEN = 1e6
"""Range given to constant observations."""


@dataclass(frozen=True)
class PeerSettings:
    """How a LeRobot policy is set.

    Attributes:
        options: of its config class.
        lr: peak learning rate.
        merged: the policy reads ``observation.state`` alone, so the environment state is appended to it.
        vq_share: part of the training steps that fit VQ-BeT's codes.
    """

    options: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-3
    merged: bool = False
    vq_share: float = 0.0


PEERS = {
    "act": PeerSettings(
        {
            "chunk_size": HORIZON,
            "n_action_steps": EXECUTED,
            "dim_model": 128,
            "dim_feedforward": 512,
            "n_heads": 4,
            "n_encoder_layers": 2,
            "n_vae_encoder_layers": 2,
        }
    ),
    "diffusion": PeerSettings(
        {"horizon": HORIZON, "n_action_steps": EXECUTED, "down_dims": (64, 128, 256), "num_inference_steps": 10},
        lr=3e-3,
    ),
    "vqbet": PeerSettings(
        {
            "action_chunk_size": EXECUTED,
            "crop_shape": None,
            "pretrained_backbone_weights": None,
            "gpt_input_dim": 128,
            "gpt_output_dim": 128,
            "gpt_hidden_dim": 128,
            "gpt_n_layer": 4,
            "gpt_n_head": 4,
        },
        lr=3e-3,
        merged=True,
        vq_share=0.2,
    ),
    "multi_task_dit": PeerSettings(
        {
            "horizon": HORIZON,
            "n_action_steps": EXECUTED,
            "objective": "flow_matching",
            "num_integration_steps": 10,
            "hidden_dim": 128,
            "num_layers": 4,
            "num_heads": 4,
            "timestep_embed_dim": 128,
        },
        lr=3e-3,
        merged=True,
    ),
}


def make_peer(name: str, chunks: ActionChunks, steps: int, lr: float | None = None) -> Peer:
    """Make a fresh LeRobot policy for a dataset.

    Args:
        name: one of ``PEERS``.
        chunks: the training episodes, whose exact statistics normalise.
        steps: of the whole training.
        lr: peak learning rate instead of the chosen one.
    """
    settings = PEERS[name]
    options = dict(settings.options)
    if settings.vq_share:
        options["n_vqvae_training_steps"] = max(1, round(settings.vq_share * steps))
    columns = merge(chunks.columns) if settings.merged else chunks.columns
    observed = {key: columns[key] for key in (OBS_STATE, OBS_ENV_STATE) if key in columns}
    features = {key: feature(key, values.shape[1:]) for key, values in observed.items()}
    if name == "vqbet":
        features[NO_IMAGE] = PolicyFeature(FeatureType.VISUAL, (3, 64, 64))
    with tempfile.TemporaryDirectory() as folder:
        if name == "multi_task_dit":
            options["text_encoder_name"] = str(small_clip(Path(folder) / "clip"))
        config = make_policy_config(
            name,
            input_features=features,
            output_features={ACTION: PolicyFeature(FeatureType.ACTION, chunks.shapes[ACTION])},
            device="cpu",
            push_to_hub=False,
            optimizer_lr=lr or settings.lr,
            **options,
        )
        # LeRobot leaves the environment state raw unless told.
        config.normalization_mapping["ENV"] = config.normalization_mapping["STATE"]
        policy = get_policy_class(name)(config)
        processors = make_pre_post_processors(config, dataset_stats=statistics(observed, columns[ACTION]))
    if name == "vqbet":
        policy.vqbet.rgb_encoder = NoImage(policy.vqbet.rgb_encoder.feature_dim)
    return Peer(policy, processors, settings.merged)


def feature(name: str, shape: tuple[int, ...]) -> PolicyFeature:
    """Return LeRobot's description of a low-dimensional observation."""
    return PolicyFeature(FeatureType.ENV if name == OBS_ENV_STATE else FeatureType.STATE, tuple(shape))


def statistics(observed: dict[str, Tensor], actions: Tensor) -> dict[str, dict[str, np.ndarray]]:
    """Return exact statistics for LeRobot's normalisers.

    They divide by the range or the standard deviation, plus 1e-8: an observation that is constant in the demonstrations
    and moves in a rollout would become a number of 1e7. Constant observations get a range so wide that they read as 0,
    which is what our own normaliser does.
    """
    found = {key: Statistics.of(values.numpy()).as_lerobot() for key, values in observed.items()}
    for numbers in found.values():
        still = numbers["max"] - numbers["min"] <= STILL * np.maximum(1.0, np.abs(numbers["mean"]))
        numbers["min"] = np.where(still, numbers["mean"] - UNSEEN, numbers["min"])
        numbers["max"] = np.where(still, numbers["mean"] + UNSEEN, numbers["max"])
        numbers["std"] = np.where(still, UNSEEN, numbers["std"])
    return {**found, ACTION: Statistics.of(actions.numpy()).as_lerobot()}


def small_clip(folder: Path) -> Path:
    """Write a random one-layer CLIP text model over single bytes, which multi_task_dit cannot be made without.

    With one task a dataset its output is a constant, so what it has learnt does not matter.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    start, end = len(tokens) - 2, len(tokens) - 1
    config = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    CLIPTextModel(config).save_pretrained(folder)
    return folder
