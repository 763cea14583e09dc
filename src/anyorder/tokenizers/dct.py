"""The orthonormal discrete cosine transform (DCT-II) over the time steps of a chunk, as one matrix."""

import math
from functools import lru_cache

import torch
from torch import Tensor


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
    return matrix @ chunks.to(matrix.dtype)


def idct(coefficients: Tensor) -> Tensor:
    """Undo ``dct``: coefficients (batch, frequency, action size) into chunks (batch, time, action size).

    >>> x = torch.rand(2, 5, 3, dtype=torch.float64)
    >>> torch.allclose(idct(dct(x)), x)
    True
    """
    matrix = dct_matrix(coefficients.shape[1], coefficients.device)
    return matrix.T @ coefficients.to(matrix.dtype)
