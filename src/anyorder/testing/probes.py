"""What the checks of factorizations share: their list, small networks, chunks, statistics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from anyorder.factorization import Categorical, Factorization, Slots, TokenAutomaton, TokenFactorization
from anyorder.factorization.slots import AskingNetwork
from anyorder.networks import ChunkNetwork, OrdinalHead, SlotNetwork, TransformerConfig
from anyorder.testing.toy import TabularNetwork, context

LENGTH, VOCAB = 3, 3
LEVELS = (1, 2)
WIDTH = 16
FALSE_ALARM = 1e-4
ROWS = 4000


HEAD: ContextVar[str] = ContextVar("HEAD", default="categorical")
"""What ``network_for``'s networks answer with: ``categorical``, ``ordinal`` or ``mixture``."""

Check = Callable[[Any], None]
CHECKS: dict[str, tuple[Check, Callable[[Factorization], bool]]] = {}
"""The contract has these checks, by name, each with the predicate that says whether it applies to a family."""


def check(applies: Callable[[Any], bool] = lambda family: True) -> Callable[[Check], Check]:
    """Add a check to the contract, for the families that ``applies`` says."""

    def add(function: Check) -> Check:
        CHECKS[function.__name__] = (function, applies)
        return function

    return add


def scores(family: Factorization) -> bool:
    """Whether a family has a likelihood or a bound."""
    return isinstance(family, TokenFactorization)


def exact(family: Factorization) -> bool:
    """Whether it is the likelihood."""
    return scores(family) and bool(family.exact)


def generator(seed: int = 0) -> torch.Generator:
    """Return a fresh generator."""
    return torch.Generator().manual_seed(seed)


def network_for(family: Factorization, length: int = 5, vocab: int = 7, seed: int = 0) -> Any:
    """Return a small random network of the kind a family asks, in float64."""
    torch.manual_seed(seed)
    trunk = TransformerConfig(WIDTH, 2, 2).build()
    if not family.draws_tokens:
        size = (vocab - 1).bit_length() if family.discrete else 2
        network = ChunkNetwork(trunk, length, size, vocab if family.discrete else None)
        # A fresh one predicts zeros, which would hide what it reads.
        torch.nn.init.normal_(network.value_out.weight, std=0.3)
        return network.double().eval()
    levels = (1,) + (2,) * (length // 2) if length % 2 else (2,) * (length // 2)
    head = None
    if HEAD.get() != "categorical" and answers_with_numbers(family):
        head = OrdinalHead(WIDTH, length, (vocab,), components=2)
        # A fresh one answers every slot alike.
        torch.nn.init.normal_(head.out.weight, std=0.5)
    mixed = head is not None and HEAD.get() == "mixture"
    return SlotNetwork(trunk, length, vocab, levels, head, mixed).double().eval()


def answers_with_numbers(family: Factorization) -> bool:
    """Return whether a family's network may have an ordinal head."""
    return isinstance(family, TokenFactorization) and family.normalizes


@contextmanager
def ordinal_heads(kind: str = "ordinal") -> Iterator[None]:
    """Give ``network_for``'s networks an ordinal head meanwhile, or a ``mixture``, where the family can have one."""
    token = HEAD.set(kind)
    try:
        yield
    finally:
        HEAD.reset(token)


def chunks_for(family: Factorization, rows: int, length: int = 5, vocab: int = 7, seed: int = 0) -> Tensor:
    """Return random chunks of the kind a family models."""
    if family.discrete:
        return torch.randint(vocab, (rows, length), generator=generator(seed))
    return torch.rand(rows, length, 2, generator=generator(seed), dtype=torch.float64) * 2 - 1


def observations(rows: int, seed: int = 0) -> Tensor:
    """Return random contexts for ``network_for``."""
    return torch.randn(rows, 2, WIDTH, generator=generator(seed), dtype=torch.float64)


def assert_follows(codes: Tensor, law: Tensor, every_code: Tensor, what: str) -> None:
    """Chi-square test of codes against probabilities ``law`` of ``every_code``; rare cells are pooled."""
    weight = VOCAB ** torch.arange(every_code.shape[1])
    cell = torch.full((int(weight.sum()) * (VOCAB - 1) + 1,), -1)
    cell[(every_code * weight).sum(1)] = torch.arange(len(every_code))
    observed = torch.bincount(cell[(codes * weight).sum(1)], minlength=len(every_code)).double()
    expected = law.double() * len(codes)
    assert observed[expected < 1e-9].sum() == 0, f"{what}: sampled codes that have probability 0"
    rare = expected < 5
    seen = torch.cat([observed[~rare], observed[rare].sum().view(1)]).numpy()
    wanted = torch.cat([expected[~rare], expected[rare].sum().view(1)]).numpy()
    keep = wanted > 1e-9
    wanted = wanted[keep] * seen.sum() / wanted[keep].sum()
    p = stats.chisquare(seen[keep], wanted).pvalue
    assert p > FALSE_ALARM, f"{what}: samples do not follow the enumerated law (p = {p:.1e})"


def log_law(family: TokenFactorization, network: TabularNetwork) -> Tensor:
    """Return the exact log-probability of every code."""
    return family.log_prob(network, network.codes, context(len(network.codes)), generator=generator(), samples=1).value


def exactly_one_two() -> TokenAutomaton:
    """Return the automaton of codes over 7 tokens that hold token 2 exactly once."""
    token_class = (torch.arange(7) == 2).long()
    return TokenAutomaton(token_class, torch.tensor([[0, 1], [1, -1]]), start=0, accept=1)


class Spoiled(AskingNetwork):
    """A network one number of whose answer to one row is spoiled, from some call on.

    Args:
        network: the network.
        value: what stands in the place of the number; of every number of the answer if it is -inf.
        row: of the batch.
        call: the first call that is spoiled.
    """

    def __init__(self, network: Any, value: float, row: int, call: int = 0) -> None:
        super().__init__(network)
        self.value, self.row, self.left = value, row, call

    def __call__(self, *given: Any, **options: Any) -> Any:
        """Ask and spoil."""
        answer = self.network(*given, **options)
        if isinstance(answer, tuple):
            return Categorical(self.spoil(answer[0].logits)), answer[1]
        return self.spoil(answer)

    def from_vectors(self, vectors: Tensor, cache: Any) -> Categorical:
        """Ask and spoil."""
        return Categorical(self.spoil(self.network.from_vectors(vectors, cache).logits))

    def spoil(self, answer: Tensor) -> Tensor:
        """Return the answer (batch, ...) with the number in it."""
        self.left -= 1
        if self.left < 0:
            answer = answer.clone()
            everywhere = self.value == -torch.inf and not answer.isinf().any()
            answer[self.row, ..., slice(None) if everywhere else 0] = self.value
        return answer


class Counting(AskingNetwork):
    """Counts a network's calls and slots."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.calls = self.slots = 0

    def __call__(self, first: Any, *rest: Any, **options: Any) -> Any:
        """Count and pass on."""
        self.calls += 1
        self.slots += first.tokens.shape[1] if isinstance(first, Slots) else first.shape[1]
        return self.network(first, *rest, **options)

    def from_vectors(self, vectors: Tensor, cache: Any) -> Categorical:
        """Count and pass on."""
        self.calls, self.slots = self.calls + 1, self.slots + vectors.shape[1]
        answer: Categorical = self.network.from_vectors(vectors, cache)
        return answer
