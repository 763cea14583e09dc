"""Cameras: a backbone's feature map, pooled to numbers that the observation encoder puts beside the joints."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyorder.errors import MAX_SIDE, ConfigError, reason
from anyorder.factorization.noise import fractions
from anyorder.networks.transformer import MAX_SIZE, Cache, TransformerConfig
from anyorder.settings import Settings, setting

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


@dataclass
class VisionConfig(Settings):
    """How pictures are read; keypoints are of arXiv 1504.00702, Levine et al., End-to-End Training of Deep Visuomotor
    Policies, 2015."""

    backbone: str = setting(
        "conv",
        "What reads a picture: conv (four small layers, for CPUs), resnet18 (torchvision's, GroupNorm in place of "
        "BatchNorm, as averaged weights and small batches need) or vit (a small transformer over patches).",
        among=("conv", "resnet18", "vit"),
    )
    pretrained: bool = setting(False, "Start resnet18 from ImageNet weights, which torchvision downloads once.")
    pool: str = setting(
        "spatial_softmax",
        "How features become numbers: spatial_softmax (where each keypoint is) or average.",
        among=("spatial_softmax", "average"),
    )
    keypoints: int = setting(32, "Features that spatial softmax finds the place of.", least=1, most=MAX_SIZE)
    features: int = setting(64, "Numbers a picture ends in.", least=1, most=MAX_SIZE)
    width: int = setting(32, "Channels of conv, residual width of vit; a multiple of 8.", least=8, most=MAX_SIZE)
    patch: int = setting(8, "Side of a patch of vit, in pixels.", least=1, most=MAX_SIZE)
    depth: int = setting(3, "Blocks of vit.", least=1, most=MAX_SIZE)
    resize: list[int] = setting(
        [],
        "[height,width] in pixels to which every picture is brought first; the dataset's when empty.",
        least=8,
        most=MAX_SIDE,
    )
    crop: float = setting(
        1.0,
        "Share of height and width that a random window keeps in training, the central one later; 1 is off.",
        least=0.5,
        most=1,
    )
    jitter: float = setting(
        0.0,
        "Brightness, contrast and saturation are multiplied by up to 1 +- this in training; 0 is off.",
        least=0,
        below=1,
    )
    dropout: float = setting(
        0.0, "Chance that a camera is missing in training; a policy trained so also runs without it.", least=0, below=1
    )
    shared: bool = setting(False, "One backbone for all cameras instead of one each.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 8:
            raise ConfigError("width", self.width, "a multiple of 8")
        if len(self.resize) not in (0, 2):
            allowed = "[height, width] in pixels, each >= 8, or [] for the dataset's size"
            raise ConfigError("resize", self.resize, allowed)
        if self.pretrained and self.backbone != "resnet18":
            raise ConfigError("pretrained", True, "false, but for resnet18")


class VisionEncoder(nn.Module):
    """Reads the pictures of one camera.

    Args:
        channels: 3 for colour.
        size: (height, width) to which pictures are brought, in pixels.
        config: backbone, pooling, augmentation.

    >>> encoder = VisionEncoder(3, (32, 32), VisionConfig(features=16))
    >>> encoder(torch.zeros(2, 1, 3, 32, 32)).shape
    torch.Size([2, 16])
    """

    def __init__(self, channels: int, size: tuple[int, int], config: VisionConfig) -> None:
        super().__init__()
        self.size = size
        self.config = config
        self.window = (round(size[0] * config.crop), round(size[1] * config.crop))
        stride = {"conv": 4, "resnet18": 32, "vit": config.patch}[config.backbone]
        if min(self.window) <= stride:
            allowed = f"pictures larger than {stride} pixels for {config.backbone}, whose map has a point for so many"
            raise ConfigError("encoder.vision.resize", list(self.window), allowed)
        self.backbone, width = make_backbone(channels, self.window, config)
        self.pool: nn.Module
        if config.pool == "spatial_softmax":
            self.pool, pooled = SpatialSoftmax(width, config.keypoints), 2 * config.keypoints
        else:
            self.pool, pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), width
        self.out = nn.Linear(pooled, config.features)

    def forward(self, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map pictures (batch, history, channels, height, width) to (batch, history * features).

        Args:
            pictures: uint8, or float in [0, 1], of any size.
            generator: source of crops and colours in training, the same for all moments of a row.
        """
        batch, history = pictures.shape[:2]
        x = pictures.to(self.out.weight.dtype)
        if not pictures.is_floating_point():
            x = x / 255
        if x.shape[-2:] != self.size:
            x = F.interpolate(x.flatten(0, 1), self.size, mode="bilinear", antialias=True)
            x = x.view(batch, history, *x.shape[1:])
        x = crop(x, self.window, (generator or torch.default_generator) if self.training else None)
        if self.training and self.config.jitter and x.shape[2] == len(GREY):
            x = jitter(x, self.config.jitter, generator)
        features: Tensor = self.out(self.pool(self.backbone(2 * x.flatten(0, 1) - 1)))
        return features.view(batch, -1)


class SpatialSoftmax(nn.Module):
    """Mean place of each of K features: ``sum_p softmax(k(p)) p`` over places p in [-1, 1]^2 (arXiv 1504.00702).

    >>> pool = SpatialSoftmax(4, 8)
    >>> pool(torch.zeros(1, 4, 6, 6)).abs().max() < 1e-6  # a flat map's mean place is the middle
    tensor(True)
    """

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.to_keypoints = nn.Conv2d(channels, keypoints, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, 2 keypoints)."""
        weights = self.to_keypoints(x).flatten(2).softmax(-1)
        rows, columns = (torch.linspace(-1, 1, n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
        places = torch.cartesian_prod(rows, columns)
        means: Tensor = weights @ places
        return means.flatten(1)


class PatchTransformer(nn.Module):
    """A small ViT (arXiv 2010.11929): patches, places, the project's own transformer blocks; returns a map."""

    def __init__(self, channels: int, size: tuple[int, int], config: VisionConfig) -> None:
        super().__init__()
        self.grid = (size[0] // config.patch, size[1] // config.patch)
        self.patches = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)
        self.places = nn.Parameter(torch.randn(self.grid[0] * self.grid[1], config.width) * 0.02)
        self.trunk = TransformerConfig(config.width, config.depth, heads=4).build()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, width, height / patch, width / patch)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        features, _ = self.trunk(tokens, Cache((), ()))
        out: Tensor = features.transpose(1, 2).reshape(len(x), -1, *self.grid)
        return out


def make_backbone(channels: int, size: tuple[int, int], config: VisionConfig) -> tuple[nn.Module, int]:
    """Return a network from pictures in [-1, 1] to a feature map, and the map's channels."""
    if config.backbone == "vit":
        return PatchTransformer(channels, size, config), config.width
    if config.backbone == "resnet18":
        return make_resnet(channels), 512
    layers: list[nn.Module] = []
    widths = [channels, config.width // 2, config.width, config.width, config.width]
    for i, (given, made) in enumerate(itertools.pairwise(widths)):
        # A quarter of the resolution: fine enough for a keypoint to be placed within a pixel or two.
        kernel, stride = (5, 2) if i == 0 else (3, 2 if i == 1 else 1)
        layers += [nn.Conv2d(given, made, kernel, stride, kernel // 2), nn.GroupNorm(made // 4, made), nn.ReLU()]
    return nn.Sequential(*layers), config.width


def make_resnet(channels: int) -> nn.Module:
    """Return torchvision's ResNet-18 with GroupNorm, its pooling and classes cut off."""
    from torchvision.models import resnet18

    network = resnet18(norm_layer=lambda width: nn.GroupNorm(width // 16, width))
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return nn.Sequential(*list(network.children())[:-2])


def load_imagenet(encoder: VisionEncoder) -> None:
    """Put ImageNet's convolutions into a ``resnet18``; the norms stay fresh, as they normalize by other groups.

    Raises:
        ConfigError: the weights cannot be had.
    """
    from torchvision.models import ResNet18_Weights, resnet18

    try:
        loaded = resnet18(weights=ResNet18_Weights.IMAGENET1K_V1)
    except (OSError, RuntimeError) as error:
        allowed = f"false, as ImageNet's weights cannot be downloaded ({reason(error)})"
        raise ConfigError("encoder.vision.pretrained", True, allowed) from error
    kept = nn.Sequential(*list(loaded.children())[:-2]).state_dict()
    own = encoder.backbone.state_dict()
    same = {name: v for name, v in kept.items() if v.dim() == 4 and own[name].shape == v.shape}
    encoder.backbone.load_state_dict({**own, **same})


def crop(pictures: Tensor, window: tuple[int, int], generator: torch.Generator | None) -> Tensor:
    """Cut a window (height, width) out of pictures (batch, ...): anywhere by ``generator``, the middle without one."""
    room = [have - want for have, want in zip(pictures.shape[-2:], window, strict=True)]
    if not any(room):
        return pictures
    height, width = window
    if generator is None:
        top, left = room[0] // 2, room[1] // 2
        return pictures[..., top : top + height, left : left + width]
    corners = [
        torch.randint(r + 1, (len(pictures),), generator=generator, device=generator.device).tolist() for r in room
    ]
    parts = zip(pictures, *corners, strict=True)
    return torch.stack([p[..., top : top + height, left : left + width] for p, top, left in parts])


def jitter(pictures: Tensor, strength: float, generator: torch.Generator | None) -> Tensor:
    """Change brightness, contrast and saturation of pictures (batch, history, 3, height, width), row by row."""
    device = pictures.device
    drawn = fractions((3, len(pictures), 1, 1, 1, 1), device, generator)
    brightness, contrast, saturation = (1 + strength * (2 * drawn - 1)).to(pictures.dtype)
    weights = torch.tensor(GREY, device=device, dtype=pictures.dtype).view(3, 1, 1)
    x = pictures * brightness
    mean = (x * weights).sum(2, keepdim=True).mean((3, 4), keepdim=True)
    x = mean + contrast * (x - mean)
    grey = (x * weights).sum(2, keepdim=True)
    changed: Tensor = grey + saturation * (x - grey)
    return changed.clamp(0, 1)
