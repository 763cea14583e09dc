"""How features become a distribution over tokens: a free softmax, or one over numbers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anyorder.factorization.conditionals import Ordinal
from anyorder.factorization.precision import Precise, at_least_float32
from anyorder.settings import Settings, setting

LEAST_LOG_SCALE = -2.5
"""No logistic is narrower, in numbers: it would put all its mass on one of them."""
FIRST_LOG_SCALE = -0.7
"""At the start a component has this log-scale in units of its position's standard deviation."""
LEAST_SPREAD = 0.3
"""A position whose numbers hardly vary in the data counts as if they had this standard deviation, in numbers."""

EXPECTED_L1 = 0.1
"""Weight of the distance of the expected number where an ordinal head is told none."""
MOST_WEIGHT = 1e6
"""No weight or width of a training target is larger."""


@dataclass
class HeadConfig(Settings):
    """What a network answers with."""

    distribution: str = setting(
        "auto",
        "The distribution of a token: categorical (a free softmax over the vocabulary), ordinal (a mixture of "
        "logistics over numbers, for tokenizers whose tokens are ordered numbers), mixture (of both, by a learned "
        "gate), spelled (for fast, by the numbers that a token stands for) or auto (ordinal where it can be).",
        among=("auto", "categorical", "ordinal", "mixture", "spelled"),
    )
    components: int = setting(5, "Logistics in the mixture of an ordinal or spelled head.", least=1, most=64)
    soft_targets: float = setting(
        0.0,
        "Weight, in the training loss alone, of the cross-entropy against a Gaussian around the true number; 0 is off. "
        "Published with 0.1.",
        least=0,
        most=MOST_WEIGHT,
    )
    soft_width: float = setting(
        0.7,
        "Standard deviation of that Gaussian, in tokens; divided by the scale of dct, 22, one of 2.2 or 4.4 is 0.1 or "
        "0.2 of a coefficient.",
        above=0,
        most=MOST_WEIGHT,
    )
    expected_l1: float | None = setting(
        None,
        "Weight, in the training loss alone, of the distance of the expected number from the true one, in nats a "
        f"number; 0 is off; null: {EXPECTED_L1} with an ordinal head, else 0.",
        least=0,
        most=MOST_WEIGHT,
    )


class OrdinalHead(Precise):
    """Maps features to mixtures of logistics over numbers, by one linear layer, in float32 also where a policy is cast.

    Locations and scales are told in units of what each position's numbers vary by in the training codes, so that the
    first answers have the data's own place and width.

    Args:
        width: of the features.
        length: tokens in a code.
        sizes: numbers of each digit of a token; see ``Ordinal``.
        components: logistics in a mixture.

    >>> head = OrdinalHead(8, length=4, sizes=(10,), components=3)
    >>> head(torch.zeros(2, 4, 8), torch.arange(4).expand(2, 4)).logits.shape
    torch.Size([2, 4, 10])
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, length: int, sizes: Sequence[int], components: int) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.components = components
        self.out = nn.Linear(width, len(self.sizes) * 3 * components)
        numbers = torch.tensor(self.sizes, dtype=torch.float32)
        # One row more, for slots that do not say which position they ask for.
        self.register_buffer("mean", ((numbers - 1) / 2).repeat(length + 1, 1))
        self.register_buffer("spread", (numbers / 4).clamp_min(LEAST_SPREAD).repeat(length + 1, 1))
        nn.init.zeros_(self.out.weight)
        with torch.no_grad():
            bias = self.out.bias.view(len(self.sizes), 3, components)
            bias[:, 0] = 0
            bias[:, 1] = torch.linspace(-1, 1, components) if components > 1 else 0.0
            bias[:, 2] = FIRST_LOG_SCALE

    @torch.no_grad()
    def place(self, mean: Tensor, spread: Tensor) -> None:
        """Start from the mean and standard deviation of each digit at each position, (length, digits)."""
        self.mean.copy_(torch.cat([mean, mean.mean(0, keepdim=True)]))
        pooled = (spread.square() + (mean - mean.mean(0)).square()).mean(0, keepdim=True).sqrt()
        self.spread.copy_(torch.cat([spread, pooled]).clamp_min(LEAST_SPREAD))

    def forward(self, features: Tensor, targets: Tensor) -> Ordinal:
        """Map features (batch, slots, width) to the distributions of what stands at ``targets`` (batch, slots)."""
        with torch.autocast(features.device.type, enabled=False):
            x = at_least_float32(features)
            raw = F.linear(x, self.out.weight.to(x), self.out.bias.to(x))
        weights, places, scales = raw.view(*raw.shape[:-1], len(self.sizes), 3, self.components).unbind(-2)
        mean, spread = (at_least_float32(x)[targets].unsqueeze(-1) for x in (self.mean, self.spread))
        widest = math.log(2 * max(self.sizes))
        log_scales = (spread.log() + scales).clamp(LEAST_LOG_SCALE, widest)
        mixture = torch.stack([torch.log_softmax(weights, -1), mean + spread * places, log_scales], -2)
        return Ordinal(mixture, self.sizes)
