"""A joint small enough to enumerate, and the tabular network that knows all its conditionals exactly."""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from anyorder.factorization import Categorical, Slots


class TabularNetwork:
    """Answers p(x_target | visible tokens) from a table of the whole joint, in float64.

    With ``perturb`` > 0 each conditional gets its own fixed noise, so that they fit no single joint (as a trained
    any-order network's do not).
    ``equal`` > 0 instead gives that mass to the codes of equal tokens, and the rest to all.
    """

    def __init__(
        self,
        length: int,
        vocab_size: int,
        seed: int = 0,
        perturb: float = 0.0,
        equal: float = 0.0,
        levels: tuple[int, ...] | None = None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.length, self.vocab_size, self.levels = length, vocab_size, levels
        weights = torch.rand((vocab_size,) * length, generator=generator, dtype=torch.float64) ** 3
        if equal:
            weights = torch.full_like(weights, (1 - equal) / vocab_size**length)
            for token in range(vocab_size):
                weights[(token,) * length] += equal / vocab_size
        self.joint = weights / weights.sum()
        self.codes = torch.tensor(list(itertools.product(range(vocab_size), repeat=length)))
        # Rows are partial assignments read as base-(vocab_size + 1) numbers; the digit vocab_size is "unknown".
        exact = self.conditionals()
        self.table = exact + perturb * torch.randn(exact.shape, generator=generator, dtype=torch.float64)

    def prefill(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is read yet: an empty pair of tokens and positions."""
        empty = torch.zeros(context.shape[0], 0, dtype=torch.int64)
        return empty, empty

    def __call__(
        self, slots: Slots, cache: tuple[Tensor, Tensor], visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Categorical, tuple[Tensor, Tensor]]:
        """Look the conditionals up; a slot that predicts nothing gets an arbitrary row."""
        tokens = torch.cat([cache[0], slots.tokens], 1)
        positions = torch.cat([cache[1], slots.positions], 1)
        batch, new = slots.tokens.shape
        read = cache[0].shape[1]
        sees = torch.ones(batch, new, read + new, dtype=torch.bool)
        if visible is not None:
            sees[:, :, read:] = visible
        digit = (self.vocab_size + 1) ** positions.clamp_max(self.length - 1)
        known = (positions < self.length) & (tokens < self.vocab_size)
        # A slot does not read the token at its own target, as if it were masked.
        reads = (sees & known.unsqueeze(1)) & (positions.unsqueeze(1) != slots.targets.unsqueeze(2))
        unknown: int = sum(self.vocab_size * (self.vocab_size + 1) ** p for p in range(self.length))
        key = unknown + (((tokens - self.vocab_size) * digit).unsqueeze(1) * reads).sum(-1)
        end = read + (new if keep is None else keep)
        logits = self.table[key, slots.targets.clamp_max(self.length - 1)]
        return Categorical(logits), (tokens[:, :end], positions[:, :end])

    def conditional(self, target: int, given: dict[int, int]) -> Tensor:
        """Return log p(x_target | given) as logits."""
        key = sum(given.get(p, self.vocab_size) * (self.vocab_size + 1) ** p for p in range(self.length))
        return self.table[key, target]

    def conditionals(self) -> Tensor:
        """Enumerate every conditional: (partial assignments, targets, vocabulary)."""
        rows = []
        for digits in itertools.product(range(self.vocab_size + 1), repeat=self.length):
            given = {p: t for p, t in enumerate(reversed(digits)) if t < self.vocab_size}
            row = []
            for target in range(self.length):
                index = tuple(given.get(p, slice(None)) if p != target else slice(None) for p in range(self.length))
                table = self.joint[index]
                axis = sum(1 for p in range(target) if p not in given)
                others = [a for a in range(table.dim()) if a != axis]
                row.append(torch.log_softmax((table.sum(others) if others else table).log(), -1))
            rows.append(torch.stack(row))
        return torch.stack(rows)

    def log_joint(self, codes: Tensor) -> Tensor:
        """Return ln P of codes (batch, length)."""
        return self.joint[tuple(codes.T)].log()


class ChainNetwork:
    """Answers p(x_i | visible tokens) of a Markov chain exactly, by messages from both ends, in float64.

    The first token is uniform; each next one stays with probability ``stay`` and jumps to any other alike. A code as
    drawn has ``jumps`` jumps on average; tokens that are drawn together without seeing each other add more.
    """

    def __init__(self, length: int = 32, vocab_size: int = 4, stay: float = 0.9) -> None:
        self.length, self.vocab_size, self.levels = length, vocab_size, None
        other = (1 - stay) / (vocab_size - 1)
        self.step = torch.full((vocab_size, vocab_size), other, dtype=torch.float64).fill_diagonal_(stay)
        self.jumps = (length - 1) * (1 - stay)

    def prefill(self, context: Tensor) -> None:
        """Nothing is read: there is no observation."""

    def __call__(
        self, slots: Slots, cache: None, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Categorical, None]:
        """Return what each position's neighbours say of it, for slots that sit in place and see each other."""
        batch, length = slots.tokens.shape
        own = torch.nn.functional.one_hot(slots.tokens, self.vocab_size + 2)[..., : self.vocab_size].double()
        own = torch.where((slots.tokens < self.vocab_size).unsqueeze(-1), own, 1.0)
        uniform = torch.full((batch, self.vocab_size), 1 / self.vocab_size, dtype=torch.float64)
        before, after = [uniform], [torch.ones_like(uniform)]
        for i in range(length - 1):
            before.append((before[-1] * own[:, i]) @ self.step)
            after.append((after[-1] * own[:, length - 1 - i]) @ self.step.T)
        return Categorical((torch.stack(before, 1) * torch.stack(after[::-1], 1)).log()), cache


def mean_jumps(codes: Tensor) -> float:
    """Return how often the token changes along a code, on average over codes (batch, length)."""
    return float((codes[:, 1:] != codes[:, :-1]).double().sum(1).mean())


def order_nll(network: TabularNetwork, code: Tensor, order: Iterable[int]) -> float:
    """Return the chain-rule negative log-likelihood of one code in one order."""
    given: dict[int, int] = {}
    total = 0.0
    for target in order:
        logits = network.conditional(target, given)
        total -= float(torch.log_softmax(logits, -1)[code[target]])
        given[target] = int(code[target])
    return total


def context(batch: int) -> Tensor:
    """Return an empty observation for ``batch`` rows."""
    return torch.zeros(batch, 1, 1)
