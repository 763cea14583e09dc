"""Random numbers for values and observations: drawn on the generator's device, moved to where they are used.

So one seed on the CPU gives the same noise whatever device the network is on.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normals(shape: Sequence[int], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard normal numbers of the type and on the device of ``like``; by torch's own generator if None."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, dtype=like.dtype, generator=generator, device=device).to(like.device)


def fractions(
    shape: Sequence[int], device: torch.device, generator: torch.Generator | None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw uniforms in [0, 1) for ``device``; by torch's own generator if None."""
    source = device if generator is None else generator.device
    return torch.rand(shape, dtype=dtype, generator=generator, device=source).to(device)


def on_device(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return a generator that diffusers can draw with for ``device``: itself, or one that it seeds.

    Diffusers draws on the CPU for a GPU, and not the other way round.
    """
    if generator.device.type in ("cpu", device.type):
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator().manual_seed(int(seed))


def levels(count: int, rows: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Draw one of ``count`` noise levels, from 0 on, for each of ``rows``: (rows,), int64, on ``device``."""
    return torch.randint(count, (rows,), generator=generator, device=generator.device).to(device)
