"""The orthonormal discrete cosine transform (DCT-II) over a chunk's time steps, as one matrix; its rounding."""

import math
from functools import lru_cache

import torch
from torch import Tensor

# Sums of cosines that are exactly k + 1/2 come out a few units in the last place off, by an amount that
# depends on the batch's size. Rounding to this grid first makes those ties exact, so that half-to-even
# decides them.
TIE_GRID = 2.0**32

MAX_SCALE, MAX_MARGIN = 1e12, 1e6
"""No rounding is finer and no range is widened by more: coefficients would leave the integers."""


@lru_cache(maxsize=32)
def dct_matrix(horizon: int, device: torch.device) -> Tensor:
    """Return the DCT-II as a matrix (frequency, time), whose inverse is its transpose.

    ``M[k, t] = sqrt(2 / H) cos(pi (t + 1/2) k / H)``, with row 0 divided by ``sqrt(2)``; this is
    ``scipy.fft.dct(..., type=2, norm="ortho")``. float64, but float32 on devices that have no float64
    (Apple's MPS).

    >>> m = dct_matrix(4, torch.device("cpu"))
    >>> torch.allclose(m @ m.T, torch.eye(4, dtype=m.dtype))
    True
    """
    dtype = torch.float32 if device.type == "mps" else torch.float64
    # The cache outlives the caller: its entries must not be inference tensors.
    with torch.inference_mode(False):
        k = torch.arange(horizon, dtype=torch.float64, device="cpu")
        matrix = torch.cos(torch.pi / horizon * k[:, None] * (k + 0.5)) * math.sqrt(2 / horizon)
        matrix[0] /= math.sqrt(2)
        return matrix.to(device=device, dtype=dtype)


def dct(chunks: Tensor) -> Tensor:
    """Transform chunks (batch, time, action size) into coefficients (batch, frequency, action size).

    >>> dct(torch.ones(1, 4, 1)).flatten().round(decimals=6).abs()
    tensor([2., 0., 0., 0.], dtype=torch.float64)
    """
    matrix = dct_matrix(chunks.shape[1], chunks.device)
    # One product over the batch; the same as a stack of small ones takes twice as long.
    return torch.einsum("kt,bta->bka", matrix, chunks.to(matrix.dtype))


def idct(coefficients: Tensor) -> Tensor:
    """Undo ``dct``: coefficients (batch, frequency, action size) into chunks (batch, time, action size).

    >>> x = torch.rand(2, 5, 3, dtype=torch.float64)
    >>> torch.allclose(idct(dct(x)), x)
    True
    """
    matrix = dct_matrix(coefficients.shape[1], coefficients.device)
    return torch.einsum("kt,bka->bta", matrix, coefficients.to(matrix.dtype))


def coefficient_range(lowest: int, highest: int, scale: float, horizon: int, margin: float) -> tuple[int, int]:
    """Return the least and greatest rounded coefficient that get a token; 0 always does.

    Args:
        lowest: least coefficient of the data.
        highest: greatest.
        scale: of the rounding.
        horizon: time steps in a chunk.
        margin: part of the data's range that is added at both ends.

    >>> coefficient_range(-8, 12, scale=10.0, horizon=4, margin=0.25)
    (-13, 17)
    """
    lowest, highest = min(lowest, 0), max(highest, 0)
    more = math.ceil((highest - lowest) * margin)
    # [-1, 1] holds nothing larger: rows of the transform have norm 1, columns of data sqrt(horizon).
    bound = math.ceil(scale * math.sqrt(horizon))
    return max(lowest - more, -bound), min(highest + more, bound)


def quantize(chunks: Tensor, scale: float) -> Tensor:
    """Round ``scale`` times the DCT of chunks (batch, horizon, action size), half to even, frequency-major.

    Returns all dimensions of frequency 0, then those of frequency 1, ...: (batch, horizon * action size),
    int64.

    >>> quantize(torch.tensor([[[0.5, -0.5], [0.5, -0.5]]]), scale=10)
    tensor([[ 7, -7,  0,  0]])
    """
    coefficients = dct(chunks) * scale
    return ((coefficients * TIE_GRID).round() / TIE_GRID).round().long().flatten(1)
