"""What every factorization promises. A new one is covered by joining its family."""

import pytest

from anyorder.factorization import FactorizationConfig
from anyorder.testing.factorizations import CHECKS, check_factorization
from anyorder.testing.probes import answers_with_numbers, ordinal_heads

from .families import CONFIGS, every_config, named


def is_default(config):
    """Whether a family that can answer with numbers has its default settings."""
    return config == type(config)() and answers_with_numbers(config.build())


def uses_network(name):
    """Whether a check asks a network of weights, not a table."""
    return "network_for" in CHECKS[name][0].__code__.co_names


CASES = [
    pytest.param(config, name, id=f"{named(config)}-{name}")
    for config in CONFIGS
    for name, (_, applies) in CHECKS.items()
    if applies(config.build())
]


@pytest.mark.parametrize(("config", "name"), CASES)
def test_contract(config, name):
    CHECKS[name][0](config.build())


@pytest.mark.parametrize("kind", ["ordinal", "mixture"])
@pytest.mark.parametrize(
    ("config", "name"), [case for case in CASES if is_default(case.values[0]) and uses_network(case.values[1])]
)
def test_contract_with_a_head_over_numbers(config, name, kind):
    with ordinal_heads(kind):
        CHECKS[name][0](config.build())


@every_config
def test_settings_survive_a_round_trip(config):
    assert FactorizationConfig.named(config.choice, **config.options()) == config


@every_config
def test_declares_what_it_is(config):
    family = config.build()
    assert family.draws_tokens in (True, False)
    assert family.draws_tokens <= family.discrete
    assert family.exact in (True, False, None)
    assert family.infills in ("any", "prefix", "approximate", None)
    assert len(type(family).__doc__) > 200
    assert "arXiv" in type(family).__doc__ or "repository" in type(family).__doc__


def test_a_broken_family_is_caught():
    class Peeking(type(FactorizationConfig.named("autoregressive").build())):
        """Autoregression that sees the future."""

        def order_log_probs(self, network, tokens, context, order, visible=None):
            everything = tokens.new_ones(tokens.shape[1], tokens.shape[1]).bool()
            return super().order_log_probs(network, tokens, context, order, everything)

    with pytest.raises(AssertionError, match="sum to"):
        check_factorization(Peeking())
