"""Point clouds: one small network for every point, and the maximum over them."""

from torch import Tensor, nn

WIDTHS = (64, 128, 256)


class PointEncoder(nn.Module):
    """Per-point MLP with LayerNorm, max-pool, projection, as in 3D Diffusion Policy (arXiv 2403.03954).

    The maximum makes it blind to the points' order, which a depth camera does not keep.

    Args:
        size: numbers a point has: 3 for places, 6 with colours.
        features: numbers a cloud ends in.

    >>> import torch
    >>> encoder, cloud = PointEncoder(3, 16), torch.randn(2, 100, 3)
    >>> torch.allclose(encoder(cloud), encoder(cloud[:, torch.randperm(100)]))
    True
    """

    def __init__(self, size: int, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in WIDTHS:
            layers += [nn.Linear(size, width), nn.LayerNorm(width), nn.ReLU()]
            size = width
        self.mlp = nn.Sequential(*layers)
        self.out = nn.Sequential(nn.Linear(size, features), nn.LayerNorm(features))

    def forward(self, points: Tensor) -> Tensor:
        """Map clouds (batch, points, size) to (batch, features)."""
        out: Tensor = self.out(self.mlp(points).amax(-2))
        return out
