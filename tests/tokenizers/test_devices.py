"""Tokenizers work on a device without float64, as Apple's GPU."""

import copy

import pytest
import torch

from anyorder.testing.chunks import recorded_like
from anyorder.testing.tokenizers import fitted
from anyorder.tokenizers import TokenizerConfig

from ..factorization.pretend import Pretend
from .test_contract import QUICK

SHAPE = (7, 3)


@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
@torch.no_grad()
def test_a_device_without_float64(choice):
    tokenizer = fitted(TokenizerConfig.named(choice, **QUICK.get(choice, {})), SHAPE)
    chunks = recorded_like(100, *SHAPE, seed=5)
    tokens, decoded = tokenizer.encode(chunks), tokenizer.decode(tokenizer.encode(chunks))
    with Pretend("mps") as pretend:
        there = pretend.network(copy.deepcopy(tokenizer))
        found = there.encode(pretend.far(chunks))
        back = there.decode(pretend.far(tokens))
        assert (found.device.type, back.device.type) == ("mps", "mps")
        found, back = found.cpu(), back.cpu()
    # Near the edge between two tokens float32 may decide otherwise.
    assert (found == tokens).double().mean() > 0.99
    assert (back - decoded).abs().max() < 1e-5
