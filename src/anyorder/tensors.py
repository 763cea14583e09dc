"""Tensors and facts in one safetensors file that says when it was damaged."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anyorder.errors import CheckpointError
from anyorder.files import DIGEST, changed, load_json, whole

METADATA, FACTS = "anyorder", "facts"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors, and facts that JSON can hold, whole; with a digest of both in the file's metadata."""
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(facts or {})
    # One entry, as safetensors writes several in any order: the same content shall be the same bytes.
    metadata = {METADATA: json.dumps({FACTS: text, DIGEST: digest(held, text)})}
    with whole(path) as staged:
        save_file(held, staged, metadata=metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and facts of a file; one without a digest, as older ones are, is accepted.

    Raises:
        FileNotFoundError: there is none; what that means, the caller knows.
        CheckpointError: the file cannot be read, or is not what was written.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata = file.metadata() or {}
        if METADATA not in metadata and metadata.keys() - {"format"}:
            raise ValueError(f"metadata of another kind: {', '.join(sorted(metadata))[:60]}")
        metadata = load_json(metadata.get(METADATA, "{}"))
        text = metadata.get(FACTS, "{}")
        right = metadata.get(DIGEST) in (None, digest(tensors, text))
        facts = load_json(text)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(str(path), lines[0][:160], "a file of tensors that can be read") from error
    if not right or not isinstance(facts, dict):
        raise CheckpointError(changed(path, f"its metadata {DIGEST!r}"))
    return tensors, facts


def digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the digest of tensors by name, their types and shapes, and of a text."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
