"""The contract: a factorization says which conditionals a joint over a chunk is written as.

It owns the loss, the likelihood and the sampler, and no weights. The network answers one question: given slots, give
logits. A *slot* is (token, position, target): the token it carries (or MASK, or START), where that token sits in the
code, and which position its logits predict. Which slots see which is data, too, so every family shares one network.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from anyorder.choices import Choice
from anyorder.errors import ConfigError, bad_value
from anyorder.factorization.constraint import TokenAutomaton

UNKNOWN = -1
"""Marks a free position in ``known``."""


class Slots(NamedTuple):
    """What a network reads; each of shape (batch, slots), int64."""

    tokens: Tensor
    positions: Tensor
    targets: Tensor


class TokenNetwork(Protocol):
    """A network over slots: tokens 0..vocab_size-1 plus the inputs MASK = vocab_size and START = vocab_size + 1.

    Positions are 0..length-1; the START slot sits at position ``length``.
    """

    length: int
    vocab_size: int

    def prefill(self, context: Tensor) -> Any:
        """Encode the context (batch, context tokens, width) once; returns a cache that slots can attend to."""

    def __call__(self, slots: Slots, cache: Any, visible: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return logits (batch, slots, vocab_size) and the cache extended by these slots.

        Slots see everything in the cache, and each other where ``visible`` (slots, slots) or (batch, slots, slots)
        is True; None means everywhere.
        """


class ValueNetwork(Protocol):
    """The same trunk over continuous slots, one per time step of the chunk."""

    horizon: int
    action_size: int

    def prefill(self, context: Tensor) -> Any:
        """Encode the context once; returns a cache that slots can attend to."""

    def __call__(self, values: Tensor, times: Tensor | None, cache: Any) -> Tensor:
        """Map values (batch, horizon, action size) and times in [0, 1] (batch,) to values of the same shape."""


@dataclass(frozen=True)
class LogProb:
    """Log-likelihood in nats, or a lower bound on it.

    Attributes:
        value: estimate per sequence, shape (batch,).
        standard_error: Monte-Carlo standard error of ``value``, shape (batch,); zero where it is computed exactly.
    """

    value: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class Sample:
    """What a sampler drew, and what that cost.

    Attributes:
        chunk: tokens (batch, length), int64; for continuous families values (batch, horizon, action size).
        log_prob: sum of the log-conditionals the sampler drew from, at temperature 1 and without the constraint,
            shape (batch,), nats; None where the family defines none. Known positions do not count.
        forwards: network calls, the context's prefill not counted.
        slots: slots processed per sequence over all those calls.
    """

    chunk: Tensor
    log_prob: Tensor | None
    forwards: int
    slots: int


class Factorization(ABC):
    """One way to write p(chunk | context) as conditionals.

    Class attributes:
        discrete: the chunk is tokens (True) or continuous values (False).
        exact: ``log_prob`` is the likelihood (True) or a lower bound, the ELBO (False); None where none is defined.
    """

    discrete: ClassVar[bool]
    exact: ClassVar[bool | None]

    @abstractmethod
    def loss(self, network: Any, chunk: Tensor, context: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the training loss per sequence, shape (batch,); for token families in nats."""

    @abstractmethod
    def sample(
        self,
        network: Any,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Draw one chunk per row of ``context`` (batch, context tokens, width).

        Args:
            network: the network to ask.
            context: encoded observation.
            generator: the only source of randomness.
            temperature: 1 samples the model, 0 takes the most likely token (token families).
            constraint: only sequences it accepts are drawn (token families).
            known: frozen positions (batch, length), ``UNKNOWN`` where free (token families).
        """


class TokenFactorization(Factorization):
    """A factorization of a joint over tokens; it has a likelihood or a bound."""

    discrete = True

    @abstractmethod
    def log_prob(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 32,
    ) -> LogProb:
        """Return log p(tokens | context) per sequence, or its lower bound from ``samples`` Monte-Carlo draws."""


@dataclass
class FactorizationConfig(Choice, ABC):
    """Settings of a factorization; ``build()`` makes it."""

    @abstractmethod
    def build(self) -> Factorization:
        """Make the factorization."""


def require(condition: bool, field: str, given: Any, allowed: str) -> None:
    """Raise a ``ConfigError`` of one line unless ``condition`` holds.

    >>> require(1 > 0, "steps", 1, ">= 1")
    """
    if not condition:
        raise ConfigError(bad_value(field, given, allowed))
