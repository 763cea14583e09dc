"""The core: one joint over a chunk, many ways to write it. Needs torch alone (Gaussian diffusion also diffusers)."""

from anyorder.factorization import families
from anyorder.factorization.base import (
    Factorization,
    FactorizationConfig,
    LogProb,
    Sample,
    Slots,
    TokenFactorization,
    TokenNetwork,
    ValueNetwork,
)
from anyorder.factorization.checks import UNKNOWN, check_finite, check_sampling
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.settings import import_members

import_members(families.__name__, list(families.__path__))

__all__ = [
    "UNKNOWN",
    "Factorization",
    "FactorizationConfig",
    "LegalTokens",
    "LogProb",
    "Sample",
    "Slots",
    "TokenAutomaton",
    "TokenFactorization",
    "TokenNetwork",
    "ValueNetwork",
    "check_finite",
    "check_sampling",
]
