"""Whether a policy's settings have the sizes of its weights, found out before anything is built or read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from lerobot.utils.constants import ACTION
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from anyorder.errors import CheckpointError
from anyorder.files import Words
from anyorder.hub import FAILURES

HUB_OPTIONS = ("revision", "cache_dir", "force_download", "token", "local_files_only")
PASSING = 1_000
"""Tensors beyond those of the weights that building a policy may make and throw away."""
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES = {**FLOATS, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}


def weights_file(name_or_path: str | Path, options: Mapping[str, Any]) -> Path | None:
    """Return the file of a policy's weights, in its folder or from the hub; None where there is none.

    Args:
        name_or_path: folder, or name on the hub.
        options: LeRobot's, of ``from_pretrained``.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        file = folder / SAFETENSORS_SINGLE_FILE
        return file if file.is_file() else None
    wanted = {name: options[name] for name in HUB_OPTIONS if name in options}
    try:
        return Path(hf_hub_download(str(name_or_path), SAFETENSORS_SINGLE_FILE, **wanted))
    except FAILURES:
        return None  # LeRobot says why when it asks itself


def check_weights(build: Callable[[], nn.Module], file: str | Path) -> None:
    """Check names, shapes and kinds of the tensors in a safetensors file against the model it is for.

    Only the file's header is read, and the model is built without memory for its tensors, at most as many as the file
    holds: settings of absurd size cost nothing. LeRobot's ``make_policy`` replaces a policy's action by that of the
    environment or dataset before it loads the weights, so an action of another size shows here.

    Args:
        build: makes the model.
        file: of its weights.

    Raises:
        CheckpointError: the model has a tensor that the file does not, or of another shape or kind; it is named.
    """
    with safe_open(file, "pt") as saved:
        held = {name: saved.get_slice(name) for name in saved.keys()}  # noqa: SIM118
        kinds = {name: (part.get_shape(), part.get_dtype()) for name, part in held.items()}
    own = {name: (list(tensor.shape), tensor.dtype) for name, tensor in blueprint(build, len(kinds)).items()}
    for name in [*own, *kinds]:
        if name not in kinds or name not in own:
            there = "settings" if name in own else "weights"
            where = "weights" if name in own else "settings"
            raise CheckpointError("checkpoint", Words(f"{name} in its {there} alone"), f"as in its {where}")
        shape, kind = kinds[name]
        if shape != own[name][0]:
            what = "action" if name.startswith(f"normalizers.{ACTION}.") else name
            raise CheckpointError(f"shape of {what}", own[name][0], f"{shape}, as the policy was trained with")
        fits = kind in FLOATS if own[name][1].is_floating_point else DTYPES.get(kind) is own[name][1]
        if not fits:
            raise CheckpointError(f"type of {name}", kind, f"that of {own[name][1]}")


def blueprint(build: Callable[[], nn.Module], tensors: int) -> dict[str, Tensor]:
    """Return the tensors of the model that ``build`` makes, without memory.

    Raises:
        CheckpointError: it makes many more than ``tensors``.
    """
    made = 0

    def count(module: nn.Module, name: str, tensor: Any) -> None:
        nonlocal made
        made += 1
        if made > 2 * tensors + PASSING:
            allowed = f"those of the {tensors} tensors of its weights"
            raise CheckpointError("sizes in the checkpoint's settings", Words("larger ones"), allowed)

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        with torch.device("meta"):
            return dict(build().state_dict())
    finally:
        for hook in hooks:
            hook.remove()
