"""What a policy observes, taken out of a batch: every moment of every observation, and which cameras are missing."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.networks import ObservationSpec
from anyorder.policies.finite import check_finite


def collect(
    batch: Mapping[str, Tensor],
    spec: ObservationSpec,
    device: torch.device,
    cameras_may_miss: bool,
    names: Mapping[str, Sequence[str]] | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the observations, raw, each (batch, moments, ...), and which rows lack a camera, (batch,) bool.

    Args:
        batch: observations by name, (batch, ...) or (batch, moments, ...); ``<camera>_is_missing`` (batch,) bool where
            some rows lack one.
        spec: what is to be observed.
        device: where to put it.
        cameras_may_miss: whether a camera may be left out of the batch.
        names: of the dimensions of an observation, for messages.

    Raises:
        ConfigError: an observation is missing, or has another number of moments.
        NotFiniteError: a value is NaN or infinite.
    """
    absent = [name for name in spec.cameras if name not in batch and cameras_may_miss]
    wanted = [name for name in spec.names if name not in absent]
    missing = [name for name in wanted if name not in batch]
    if missing or not wanted:
        allowed = "all of " + ", ".join(wanted or spec.names)
        raise ConfigError("observation without", missing or spec.names, allowed)
    given = {name: batch[name].to(device) for name in wanted}
    check_finite(given, names)
    seen = {name: moments(values, spec, name) for name, values in given.items()}
    rows = len(next(iter(seen.values())))
    gone = {}
    for name in spec.cameras:
        if name in absent:
            seen[name] = torch.zeros((rows, spec.history, *spec.cameras[name]), device=device)
            gone[name] = torch.ones(rows, dtype=torch.bool, device=device)
        elif f"{name}_is_missing" in batch:
            gone[name] = batch[f"{name}_is_missing"].to(device)
    return seen, gone


def moments(values: Tensor, spec: ObservationSpec, name: str) -> Tensor:
    """Return an observation as (batch, moments, ...); one without a history stands for all its moments."""
    axes = 3 if name in spec.cameras else 2 if name in spec.clouds else 1
    size = spec.vectors.get(name, 0)
    while values.dim() > 2 and values.shape[-1] < size and size % math.prod(values.shape[-2:]) == 0:
        values = values.flatten(-2)  # of a table, as (arms, joints)
    # LeRobot's loader drops the axis of a vector of one number.
    if spec.vectors.get(name) == 1 and (values.dim() == 1 or values.shape[1:] == (spec.history,) != (1,)):
        values = values.unsqueeze(-1)
    if values.dim() == axes + 1:
        values = values.unsqueeze(1).expand(-1, spec.history, *values.shape[1:])
    if values.dim() != axes + 2 or values.shape[1] != spec.history:
        allowed = f"(batch, {spec.history}, ...) or (batch, ...), as n_obs_steps is {spec.history}"
        raise ConfigError(f"shape of {name}", tuple(values.shape), allowed)
    return values


def past(seen: Sequence[Mapping[str, Tensor]], name: str, count: int) -> Tensor:
    """Return the last ``count`` moments of an observation, (batch, count, ...); before the first there is the first."""
    known = [moment[name] for moment in seen]
    return torch.stack([known[0]] * (count - len(known)) + known, 1)
