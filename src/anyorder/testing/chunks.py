"""Chunks to test with: what normalized demonstrations look like, and what breaks tokenizers."""

import torch
from torch import Tensor


def smooth(count: int, horizon: int = 16, action_size: int = 6, seed: int = 0, peak: float = 1.0) -> Tensor:
    """Slow sines with a little noise in each dimension, within +-``peak``."""
    generator = torch.Generator().manual_seed(seed)
    amplitude, offset, frequency, phase = torch.rand(4, count, 1, action_size, generator=generator)
    time = torch.linspace(0, 1, horizon).view(1, -1, 1)
    wave = torch.sin(2 * torch.pi * (1.5 * frequency * time + phase))
    noise = 0.01 * torch.randn(count, horizon, action_size, generator=generator)
    return (0.6 * (offset - 0.5) + (0.1 + 0.5 * amplitude) * wave + noise).clamp(-1, 1) * peak


def recorded_like(count: int, horizon: int = 16, action_size: int = 6, seed: int = 0) -> Tensor:
    """Smooth motion; the last dimension is a gripper that switches at most once, the first never moves."""
    chunks = smooth(count, horizon, action_size, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    switch = torch.randint(-horizon, 2 * horizon, (count, 1), generator=generator)
    chunks[:, :, -1] = torch.where(torch.arange(horizon) < switch, -1.0, 1.0)
    chunks[:, :, 0] = 0.25
    return chunks


def noise(count: int, horizon: int = 16, action_size: int = 6, seed: int = 0) -> Tensor:
    """Uniform noise: the worst case of every compressor."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, horizon, action_size, generator=generator) * 2 - 1
