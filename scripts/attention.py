"""Which slot sees which in every family, drawn from the slots and masks that the families themselves ask with.

``python scripts/attention.py FILE.png`` makes the picture of ``docs/factorizations.md``.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anyorder.factorization import Categorical, FactorizationConfig, Slots

LENGTH, VOCAB = 6, 4
SHOWN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("autoregressive", {}),
    ("autoregressive", {"orders": "random"}),
    ("chunked", {"sizes": [2]}),
    ("next_scale", {}),
    ("independent", {}),
    ("masked_diffusion", {}),
    ("block_diffusion", {"block_size": 3}),
    ("uniform_diffusion", {}),
)


class Recorder:
    """A network that answers nothing and keeps what it was asked."""

    length, vocab_size, levels = LENGTH, VOCAB, (1, 2, 3)

    def __init__(self) -> None:
        self.slots: Slots | None = None
        self.visible: Tensor | None = None

    def prefill(self, context: Tensor) -> None:
        """Read nothing."""

    def __call__(
        self, slots: Slots, cache: Any, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Categorical, None]:
        """Keep the slots and who sees whom."""
        self.slots = slots
        count = slots.tokens.shape[1]
        self.visible = torch.ones(count, count, dtype=torch.bool) if visible is None else visible
        return Categorical(torch.zeros(slots.tokens.shape[0], count, VOCAB)), None


def pattern(name: str, options: dict[str, Any]) -> tuple[Slots, Tensor]:
    """Return the slots of one training call of a family, (1, slots), and who sees whom, (slots, slots).

    >>> pattern("independent", {})[1].int()[2].tolist()
    [0, 0, 1, 0, 0, 0]
    """
    network = Recorder()
    tokens = torch.tensor([[0, 1, 2, 3, 0, 1]])
    family = FactorizationConfig.named(name, **options).build()
    family.loss(network, tokens, torch.zeros(1, 1, 8), generator=torch.Generator().manual_seed(4))
    assert network.slots is not None
    assert network.visible is not None
    return network.slots, network.visible


def label(slots: Slots, i: int) -> str:
    """Describe a slot: what it carries and where, and what it predicts.

    >>> label(Slots(*torch.tensor([[[4]], [[2]], [[2]]])), 0)
    'MASK@2>2'
    """
    token, position, target = (int(column[0, i]) for column in slots)
    carried = "MASK" if token == VOCAB else "START" if token == VOCAB + 1 else f"x{position}"
    place = f"@{position}" if carried == "MASK" else ""
    return f"{carried}{place}" + (f">{target}" if target < LENGTH else "")


def draw_attention(path: Path) -> None:
    """Write the picture: one panel a family; a row is a slot, dark where it sees the column's slot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, len(SHOWN) // 2, figsize=(15, 8.2), dpi=110)
    for axis, (name, options) in zip(axes.flat, SHOWN, strict=True):
        slots, visible = pattern(name, options)
        labels = [label(slots, i) for i in range(visible.shape[-1])]
        axis.imshow(visible.view(*visible.shape[-2:]), cmap="Blues", vmin=0, vmax=1.4)
        axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
        axis.set_yticks(range(len(labels)), labels, fontsize=7)
        axis.set_xticks([i - 0.5 for i in range(1, len(labels))], minor=True)
        axis.set_yticks([i - 0.5 for i in range(1, len(labels))], minor=True)
        axis.grid(which="minor", color="white", linewidth=1)
        axis.tick_params(which="both", length=0)
        axis.set_title(" ".join([name, *(f"{k}={v}" for k, v in options.items())]), fontsize=10)
    figure.suptitle(
        "Rows see dark columns; all see the observation. x2>3: carries token 2, predicts token 3", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    draw_attention(Path(sys.argv[1]))
