"""A joint small enough to enumerate, and the tabular network that knows all its conditionals exactly."""

import itertools

import torch
from torch import Tensor

from anyorder.factorization import Slots


class TabularNetwork:
    """Answers p(x_target | visible tokens) from a table of the whole joint, in float64.

    With ``perturb`` > 0 each conditional gets its own fixed noise, so that they fit no single joint (as a trained
    any-order network's do not).
    """

    def __init__(self, length: int, vocab_size: int, seed: int = 0, perturb: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.length, self.vocab_size, self.perturb = length, vocab_size, perturb
        weights = torch.rand((vocab_size,) * length, generator=generator, dtype=torch.float64) ** 3
        self.joint = weights / weights.sum()
        self.codes = torch.tensor(list(itertools.product(range(vocab_size), repeat=length)))
        # One noise vector for every (partial assignment with vocab_size for "unknown", target).
        size = (vocab_size + 1) ** length
        self.noise = torch.randn(size, length, vocab_size, generator=generator, dtype=torch.float64)

    def prefill(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is read yet: an empty pair of tokens and positions."""
        empty = torch.zeros(context.shape[0], 0, dtype=torch.int64)
        return empty, empty

    def __call__(self, slots: Slots, cache, visible: Tensor | None = None):
        tokens = torch.cat([cache[0], slots.tokens], 1)
        positions = torch.cat([cache[1], slots.positions], 1)
        batch, new = slots.tokens.shape
        read = cache[0].shape[1]
        logits = torch.zeros(batch, new, self.vocab_size, dtype=torch.float64)
        for b in range(batch):
            for s in range(new):
                sees = torch.ones(read + new, dtype=torch.bool)
                if visible is not None:
                    rows = visible if visible.dim() == 2 else visible[b]
                    sees[read:] = rows[s]
                given = {
                    int(p): int(t)
                    for p, t, ok in zip(positions[b], tokens[b], sees, strict=True)
                    if ok and p < self.length and t < self.vocab_size
                }
                logits[b, s] = self.conditional(int(slots.targets[b, s]), given)
        return logits, (tokens, positions)

    def conditional(self, target: int, given: dict[int, int]) -> Tensor:
        """Return log p(x_target | given) as logits; a known target counts as unknown."""
        given = {p: t for p, t in given.items() if p != target}
        index = tuple(given.get(p, slice(None)) for p in range(self.length))
        table = self.joint[index]
        axis = sum(1 for p in range(target) if p not in given)
        others = [a for a in range(table.dim()) if a != axis]
        marginal = table.sum(others) if others else table
        key = sum(
            given.get(p, self.vocab_size) * (self.vocab_size + 1) ** p for p in range(self.length)
        )
        return marginal.log() + self.perturb * self.noise[key, target]

    def log_joint(self, codes: Tensor) -> Tensor:
        """Return ln P of codes (batch, length)."""
        return self.joint[tuple(codes.T)].log()


def order_nll(network: TabularNetwork, code: Tensor, order) -> float:
    """Return the chain-rule negative log-likelihood of one code in one order."""
    given, total = {}, 0.0
    for target in order:
        logits = network.conditional(target, given)
        total -= float(torch.log_softmax(logits, -1)[code[target]])
        given[target] = int(code[target])
    return total


def context(batch: int) -> Tensor:
    """Return an empty observation for ``batch`` rows."""
    return torch.zeros(batch, 1, 1)
