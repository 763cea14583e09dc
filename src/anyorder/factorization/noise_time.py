"""Telling the network the noise level: a further context token, so that no network needs an input for it."""

import math

import torch
from torch import Tensor


def with_time(context: Tensor, times: Tensor) -> Tensor:
    """Append times in [0, 1] (batch,) to the context (batch, context tokens, width) as one more token.

    Angles reach 1000 radians, so they are computed in float32 at least, whatever the context's type.
    """
    precise = times.to(context.device, torch.promote_types(context.dtype, torch.float32))
    token = sinusoidal(precise, context.shape[-1])
    return torch.cat([context, token.to(context).unsqueeze(1)], 1)


def sinusoidal(times: Tensor, width: int) -> Tensor:
    """Embed times in [0, 1] (batch,) as sines and cosines of 1 to 1000 radians, shape (batch, width).

    >>> sinusoidal(torch.tensor([0.0]), 4)
    tensor([[0., 0., 1., 1.]])
    """
    half = (width + 1) // 2
    frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), half, device=times.device, dtype=times.dtype))
    angles = times.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)[:, :width]
