"""The contract of a factorization, as checks that run on any of them.

Every check is small enough to enumerate, in float64. What a family declares (``exact``, ``simulates``, ``infills``,
``calls``) decides which checks apply and what they demand. Seeds are fixed; a check that compares samples with a law
would fail by chance with probability ``FALSE_ALARM`` had they been drawn afresh.
"""

from anyorder.factorization import Factorization
from anyorder.testing import behavior, enumeration
from anyorder.testing.probes import CHECKS

__all__ = ["CHECKS", "behavior", "check_factorization", "enumeration"]


def check_factorization(family: Factorization) -> list[str]:
    """Run every check that applies to a family; return their names.

    Raises:
        AssertionError: the family breaks a promise; the message names the check and says how.

    >>> from anyorder.factorization import FactorizationConfig
    >>> check_factorization(FactorizationConfig.named("regression").build())  # doctest: +ELLIPSIS
    ['what_is_not_finite_becomes_no_action', ..., 'same_seed_same_sample', ..., 'known_values_never_change']
    """
    done = []
    for name, (function, applies) in CHECKS.items():
        if applies(family):
            try:
                function(family)
            except AssertionError as error:
                raise AssertionError(f"{name}: {error}") from error
            done.append(name)
    return done
