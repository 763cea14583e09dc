"""Devices by name: which there are on this machine, and what a name means here."""

import logging
import re

import torch

from anyorder.errors import ConfigError

NAMES = re.compile(r"cpu|mps|xpu|cuda(:\d+)?")
"""The pattern of the device names that LeRobot understands, of this machine or another."""


def devices() -> list[str]:
    """Return the names of this machine's devices, the best one first; of CUDA's, each has a number, too."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += [f"cuda:{number}" for number in range(torch.cuda.device_count() if found else 0)]
    found += ["mps"] if torch.backends.mps.is_available() else []
    found += ["xpu"] if torch.xpu.is_available() else []
    return [*found, "cpu"]


def check_device(name: str | None) -> None:
    """Check that a user names a device of this machine.

    Args:
        name: what was given; None leaves the choice open.

    Raises:
        ConfigError: this machine has no device of that name.
    """
    if name is not None and name not in (found := devices()):
        raise ConfigError("device", name, f"{', '.join(found)} (what this machine has)")


def device_here(name: str | None) -> str:
    """Return the device that the setting of a policy, which may come from another machine, means on this one.

    Args:
        name: the setting; a device that is not here, or None, stands for the best there is, as in LeRobot.

    Raises:
        ConfigError: no machine has a device of that name.
    """
    found = devices()
    if name is None or name in found:
        return name or found[0]
    if not NAMES.fullmatch(name):
        check_device(name)
    logging.getLogger(__name__).warning("device %r is not on this machine: %r is taken", name, found[0])
    return found[0]


def default_generator(device: torch.device) -> torch.Generator:
    """Return torch's own generator of a device, which ``torch.manual_seed`` seeds; the CPU's for other than CUDA.

    What it draws is moved to the device.
    """
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
