"""From normalised observations to the context tokens that every slot sees."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anyorder.errors import ConfigError, bad_value


@dataclass
class EncoderConfig:
    """Size of the observation encoder.

    Attributes:
        tokens: context tokens made from the low-dimensional observations.
        hidden: width of its MLP. It runs once per observation and the trunk once per slot, so width is cheap here.
        depth: hidden layers.
    """

    tokens: int = 4
    hidden: int = 512
    depth: int = 3

    def __post_init__(self) -> None:
        for name in ("tokens", "hidden", "depth"):
            if getattr(self, name) < 1:
                raise ConfigError(bad_value(f"encoder.{name}", getattr(self, name), "an integer >= 1"))


class ObservationEncoder(nn.Module):
    """Encodes each kind of observation into tokens of one width and concatenates them.

    Vectors (joints, object poses) go through one MLP together, since where the gripper is *relative* to an object
    needs both. An image encoder would add its tokens to the same list.

    Args:
        vector_sizes: size of each vector observation, by name.
        width: the trunk's width.
        config: sizes.
    """

    def __init__(self, vector_sizes: Mapping[str, int], width: int, config: EncoderConfig) -> None:
        super().__init__()
        if not vector_sizes:
            raise ConfigError(
                bad_value("observation features", [], "at least one vector, as observation.state")
            )
        self.names = sorted(vector_sizes)
        self.tokens = config.tokens
        layers: list[nn.Module] = []
        size = sum(vector_sizes.values())
        for _ in range(config.depth):
            layers += [nn.Linear(size, config.hidden), nn.SiLU()]
            size = config.hidden
        self.mlp = nn.Sequential(*layers, nn.Linear(size, config.tokens * width))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Map observations {name: (batch, size)} to context (batch, context tokens, width)."""
        x = torch.cat([observation[name] for name in self.names], -1)
        context: Tensor = self.mlp(x)
        return context.view(*context.shape[:-1], self.tokens, -1)
