"""Settings that come in as plain values: every name and type is checked, by one builder."""

import dataclasses
import typing

import pytest

from anyorder.envs import EnvConfig
from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.settings import convert
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import OptimizerConfig


def test_names_of_features_may_be_written_as_levels():
    plain = {"observation": {"state": "observation.joints"}, "actions": "action"}
    found = convert(dict[str, str], plain, "rename")
    assert found == {"observation.state": "observation.joints", "actions": "action"}
    with pytest.raises(ConfigError, match=r"^rename\.observation\.state: None given, allowed: text"):
        convert(dict[str, str], {"observation": {"state": None}}, "rename")


# What no field of a kind may hold, by its type.
WRONG = {int: (8.5, True, "8", None), float: ("0.5", True, None), bool: (1, "true"), str: (True, None)}


@pytest.mark.parametrize("family", [FactorizationConfig, TokenizerConfig, EnvConfig])
def test_options_are_built_by_their_types(family):
    """Whatever the way settings come in, a value of the wrong type is refused by name."""
    for name, member in family.choices.items():
        hints = typing.get_type_hints(member)
        for field in dataclasses.fields(member):
            for value in WRONG.get(hints[field.name], ()):
                with pytest.raises(ConfigError) as error:
                    family.named(name, **{field.name: value})
                assert str(error.value).startswith(f"{field.name}: {value!r} given, allowed: ")
    assert family.choices


def test_a_list_is_not_a_number():
    with pytest.raises(ConfigError, match=r"^betas: 0\.5 given, allowed: a list"):
        OptimizerConfig(betas=0.5)
