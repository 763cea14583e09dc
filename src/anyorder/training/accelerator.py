"""Accelerate's handle: the device, the precision and the processes of a training."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs

from anyorder.devices import devices
from anyorder.errors import ConfigError


def make_accelerator(device: str | None) -> Accelerator:
    """Make accelerate's handle for a device, the best one when None; bf16 on CUDA, full precision elsewhere.

    Raises:
        ConfigError: accelerate was told to take another device, or several processes would share a GPU.
    """
    # A process that trains several times would otherwise keep the first run's precision and device.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    kind, _, number = (device or devices()[0]).partition(":")
    if number:
        torch.cuda.set_device(int(number))  # accelerate takes the current one
    # The buffers are the tokenizer and the normalization: the same everywhere and never changed.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    precision = "bf16" if kind == "cuda" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu", kwargs_handlers=[ddp])
    chosen = accelerator.device.type
    if device is not None and (chosen != kind or (number and accelerator.num_processes > 1)):
        raise ConfigError("device", device, f"null or {chosen}, as accelerate was launched")
    return accelerator
