"""A family, a network and an observation together: the joint distribution that they write."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.base import Factorization, LogProb, TokenFactorization
from anyorder.factorization.checks import require
from anyorder.factorization.draft import Request, Sample


def seeded() -> torch.Generator:
    """Return a generator that begins at seed 0."""
    return torch.Generator().manual_seed(0)


@dataclass(frozen=True)
class Joint:
    """p(code | context), for readers and notebooks: what can be asked of it, without what a policy needs besides.

    Attributes:
        family: how the joint is written.
        network: the network that answers its conditionals.
        context: the encoded observation, shape (1 or batch, context tokens, width); one row serves any number of codes.
        generator: the only source of randomness; by default one of seed 0, so that a script repeats.

    >>> from anyorder.factorization import FactorizationConfig
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> family = FactorizationConfig.named("autoregressive").build()
    >>> joint = Joint(family, TabularNetwork(length=3, vocab_size=4), context(1))
    >>> code = joint.sample(rows=8).chunk
    >>> code.shape, joint.log_prob(code).value.shape
    (torch.Size([8, 3]), torch.Size([8]))
    """

    family: Factorization
    network: Any
    context: Tensor
    generator: torch.Generator = field(default_factory=seeded)

    def log_prob(self, code: Tensor, samples: int = 32) -> LogProb:
        """Return ln p(code | context) of codes (batch, length) in nats, or its lower bound, with a standard error.

        A bound is the mean over ``samples`` random draws; an exact likelihood needs none.

        Raises:
            ConfigError: the family defines no likelihood, or the codes do not fit the network or the context.
        """
        family = self.family
        if not isinstance(family, TokenFactorization):
            raise ConfigError("family", type(family).__name__, "one with a likelihood or a bound, over tokens")
        context = self.rows(len(code))
        return family.log_prob(self.network, code, context, generator=self.generator, samples=samples)

    def sample(self, rows: int | None = None, temperature: float = 1.0) -> Sample:
        """Draw a code for each row of the context, or ``rows`` codes for its only row.

        Args:
            rows: how many; by default as many as the context has.
            temperature: 1 samples the joint, 0 takes the most likely tokens.

        Raises:
            ConfigError: the context has several rows, and another number is asked.
        """
        context = self.rows(len(self.context) if rows is None else rows)
        return self.family.sample(self.network, context, Request(self.generator, temperature))

    def rows(self, count: int) -> Tensor:
        """Return the context of ``count`` codes."""
        have = len(self.context)
        require(have in (1, count), "rows", count, str(have) if have != 1 else "at least 1")
        return self.context.expand(count, *self.context.shape[1:])
