"""Conformance kit: checks of the contracts, for factorizations and tokenizers that are not ours, too.

``check_factorization(family)`` and ``check_tokenizer(config)`` raise an ``AssertionError`` that says what is broken; so
does ``anyorder.testing.environments.check_environment(config)``, which loads simulators.
"""

from anyorder.testing.factorizations import check_factorization
from anyorder.testing.tokenizers import check_tokenizer

__all__ = ["check_factorization", "check_tokenizer"]
