"""What a saved policy's files say, checked before anything is built from them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from safetensors import SafetensorError

from anyorder.errors import CheckpointError, ConfigError, bad_value, reason
from anyorder.files import Words, read_json
from anyorder.hub import FAILURES, asking_hub
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.settings import from_plain
from anyorder.sums import check_sums

CONFIG, WEIGHTS = "config.json", "model.safetensors"
POLICY_FILES = (CONFIG, WEIGHTS)
NEEDED = ("chunk_size", "factorization", "input_features", "output_features")
"""What ``config.json`` cannot leave to a default."""
LOADING = ("force_download", "proxies", "token", "cache_dir", "local_files_only", "revision")
"""Those of LeRobot's options of ``from_pretrained`` that say where a policy is loaded from."""


def read_config(folder: Path) -> AnyOrderConfig:
    """Read ``config.json`` of a ``pretrained_model`` folder, every field checked against its declaration.

    Raises:
        CheckpointError: it cannot be read, is of another type of policy, or a setting in it cannot be.
    """
    path = folder / CONFIG
    try:
        plain = read_json(path, CheckpointError)
    except FileNotFoundError as error:
        raise CheckpointError("checkpoint without", str(path), "a complete checkpoint") from error
    if (kind := plain.pop("type", None)) != "anyorder":
        raise CheckpointError(f"{path}: type", kind, "anyorder")
    for name in NEEDED:
        if name not in plain:
            raise CheckpointError(f"{path}: {bad_value(name, None, 'a value')}")
    with readable(folder):
        try:
            config: AnyOrderConfig = from_plain(AnyOrderConfig, plain)
            config.validate_features()
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
    return config


def trained_config(name_or_path: str | Path, options: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the settings that a policy was saved with, in a folder, whose files are checked, or on the hub.

    Args:
        name_or_path: folder, or name on the hub.
        options: LeRobot's, of ``from_pretrained``.

    Raises:
        CheckpointError: a file in the folder is damaged, or the hub does not answer.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        check_sums(folder, error=CheckpointError)
        return read_config(folder)
    source = {name: options[name] for name in LOADING if name in options}
    with asking_for_policy("policy", str(name_or_path)):
        return PreTrainedConfig.from_pretrained(name_or_path, **source)


def asking_for_policy(field: str, given: str) -> AbstractContextManager[None]:
    """Turn what asking the hub for a policy raises into one line; ``field`` is what it calls the name ``given``."""
    allowed = "a pretrained_model folder, or a policy that the hub gives out"
    offline = "without network, the folder of one that was downloaded before"
    return asking_hub(CheckpointError, field, given, allowed, offline=offline)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turn what damaged files raise into one line that names the folder, and a full device into one of its own."""
    try:
        yield
    except CheckpointError:
        raise
    except torch.OutOfMemoryError as error:
        # The device's memory: the files may well be whole.
        line = str(error).splitlines()[0][:200]
        raise ConfigError("device", Words(line), "one with room for the policy") from error
    except (
        *FAILURES,
        SafetensorError,
        json.JSONDecodeError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointError("checkpoint", str(folder), f"undamaged files ({reason(error)[:200]})") from error
