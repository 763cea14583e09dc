"""Stratified draws: one of each part of a range, in random order, which costs nothing and is less noisy."""

import torch
from torch import Tensor

from anyorder.factorization.categorical import uniforms


def stratified(rows: int, generator: torch.Generator) -> Tensor:
    """Draw one uniform from each of ``rows`` equal strata of [0, 1), in random order, float64.

    >>> stratified(2, torch.Generator().manual_seed(0)).sort().values // 0.5
    tensor([0., 1.], dtype=torch.float64)
    """
    order = uniforms((rows,), generator).argsort()
    return (order + uniforms((rows,), generator)) / rows


def stratified_counts(rows: int, length: int, generator: torch.Generator) -> Tensor:
    """Draw k uniform on 1..length for each row, one per stratum of [0, 1), in random row order.

    >>> stratified_counts(3, 3, torch.Generator().manual_seed(0)).sort().values
    tensor([1, 2, 3])
    """
    return 1 + (stratified(rows, generator) * length).long().clamp_max(length - 1)


def random_masks(counts: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Mark ``counts`` (rows,) uniformly random positions of each row: boolean (rows, length).

    >>> random_masks(torch.tensor([1, 3]), 4, torch.Generator().manual_seed(0)).sum(-1)
    tensor([1, 3])
    """
    rank = torch.argsort(torch.argsort(uniforms((len(counts), length), generator), dim=-1), dim=-1)
    return rank < counts.unsqueeze(-1)
