"""A joint is its family, network and context asked together, and refuses what does not fit."""

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig, Joint, Request
from anyorder.testing.toy import TabularNetwork, context


def family(name, **settings):
    return FactorizationConfig.named(name, **settings).build()


def test_it_says_what_the_family_says():
    network = TabularNetwork(length=3, vocab_size=3)
    joint = Joint(family("autoregressive"), network, context(1))
    torch.testing.assert_close(joint.log_prob(network.codes).value, network.log_joint(network.codes))
    drawn = Joint(family("autoregressive"), network, context(6)).sample()
    own = family("autoregressive").sample(network, context(6), Request(torch.Generator().manual_seed(0)))
    assert torch.equal(drawn.chunk, own.chunk)


def test_draws_go_on_and_a_new_joint_begins_again():
    network = TabularNetwork(length=3, vocab_size=3)
    one, two = (Joint(family("masked_diffusion"), network, context(1)) for _ in range(2))
    first, second = one.sample(rows=50).chunk, one.sample(rows=50).chunk
    assert not torch.equal(first, second)
    assert torch.equal(first, two.sample(rows=50).chunk)


def test_temperature_0_takes_the_likeliest():
    joint = Joint(family("autoregressive"), TabularNetwork(length=3, vocab_size=3), context(1))
    assert len(joint.sample(rows=50, temperature=0.0).chunk.unique(dim=0)) == 1


def test_what_does_not_fit_is_one_line():
    joint = Joint(family("autoregressive"), TabularNetwork(length=3, vocab_size=3), context(2))
    with pytest.raises(ConfigError, match="rows: 3 given, allowed: 2"):
        joint.sample(rows=3)
    with pytest.raises(ConfigError, match="one with a likelihood"):
        Joint(family("regression"), None, context(1)).log_prob(torch.zeros(1, 3, dtype=torch.int64))
