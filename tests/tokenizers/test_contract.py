"""What every tokenizer promises. A new one is covered by joining its family."""

import pytest

from anyorder.testing.tokenizers import CHECKS, SHAPES
from anyorder.tokenizers import TokenizerConfig

QUICK = {"registers": {"steps": 300}}
"""Settings that fit fast; the defaults elsewhere."""


@pytest.mark.parametrize("name", list(CHECKS))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
def test_contract(choice, shape, name):
    CHECKS[name](TokenizerConfig.named(choice, **QUICK.get(choice, {})), shape)
