"""The core: one joint over a chunk, many ways to write it. Needs torch alone (Gaussian diffusion also diffusers)."""

from anyorder.factorization import families
from anyorder.factorization.base import Factorization, FactorizationConfig, LogProb, TokenFactorization
from anyorder.factorization.checks import UNKNOWN, check_finite, check_sampling
from anyorder.factorization.conditionals import Categorical, Conditionals
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.decision import DecodeConfig
from anyorder.factorization.draft import Draft, Request, Sample
from anyorder.factorization.ensemble import Ensemble
from anyorder.factorization.joint import Joint
from anyorder.factorization.slots import Slots, TokenNetwork, ValueNetwork, in_place_slots
from anyorder.settings import import_members

import_members(families.__name__, list(families.__path__))

__all__ = [
    "UNKNOWN",
    "Categorical",
    "Conditionals",
    "DecodeConfig",
    "Draft",
    "Ensemble",
    "Factorization",
    "FactorizationConfig",
    "Joint",
    "LegalTokens",
    "LogProb",
    "Request",
    "Sample",
    "Slots",
    "TokenAutomaton",
    "TokenFactorization",
    "TokenNetwork",
    "ValueNetwork",
    "check_finite",
    "check_sampling",
    "in_place_slots",
]
