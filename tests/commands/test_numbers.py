"""Every numeric setting of every verb: an extreme value is accepted or refused in one line."""

import copy
import dataclasses
import math
import types
import typing

import pytest

from anyorder import cli
from anyorder.errors import UserError
from anyorder.settings import from_plain

NEEDED = {
    "train": ["dataset.root=x"],
    "record": ["root=x"],
    "tokenize": ["dataset.root=x"],
    "convert": ["source=x", "root=y"],
    "rollout": ["policy=x"],
    "fit": ["runs=x.csv"],
    "study": ["study=small", "action=run"],
    "report": ["runs=[x]"],
    "advise": ["laws=x", "flops=1e9", "unique_tokens=1e6"],
}
EXTREMES = (-1, -0.5, 0, math.nan, math.inf, -math.inf, 1e308, 2**70, -(2**70))
NEVER = (math.nan, math.inf, -math.inf, 2**70, -(2**70))
"""No setting takes these."""


def numbers(kind, plain, path=()):
    """Give the path of every numeric setting, and how to write a value there."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        here, hint = (*path, field.name), hints[field.name]
        options = [hint]
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            options = [a for a in typing.get_args(hint) if a is not type(None)]
        for option in options:
            arguments = typing.get_args(option)
            if option in (int, float):
                yield here, lambda value: value
            elif typing.get_origin(option) in (list, tuple) and arguments[0] in (int, float):
                yield here, lambda value: [value, value]
            elif isinstance(option, type) and dataclasses.is_dataclass(option):
                inner = plain.get(field.name) or {}
                if getattr(option, "choice", None) == "" and "type" not in inner:
                    continue
                if "type" in inner:
                    option = option.member(inner["type"], field.name)
                yield from numbers(option, inner, here)


def placed(plain, path, value):
    changed = copy.deepcopy(plain)
    inner = changed
    for step in path[:-1]:
        inner[step] = inner.get(step) or {}
        inner = inner[step]
    inner[path[-1]] = value
    return changed


def refused(kind, plain):
    """Return the one line, None where the settings are accepted."""
    try:
        from_plain(kind, plain)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("verb", cli.VERBS)
def test_no_number_of_a_setting_is_a_traceback(verb):
    kind = cli.kind_of(verb)
    plain = cli.compose(verb, NEEDED.get(verb, []))
    from_plain(kind, plain)
    for path, written in numbers(kind, plain):
        for value in EXTREMES:
            said = refused(kind, placed(plain, path, written(value)))
            if said is None:
                assert value not in NEVER, (path, value)
                assert not path[-1].endswith("seed") or value >= 0, (path, value)
            else:
                assert "\n" not in said
                assert path[-1] in said or value in (-1, 0), (path, value, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "dataset.root=x", "seed=-1"], "seed: -1 given, allowed: an integer >= 0 and <= 2147483647"),
        (["train", "dataset.root=x", "optimizer.betas=[2,2]"], "optimizer.betas: 2.0 given, allowed: a number >= 0"),
        (["train", "dataset.root=x", "temperature=1e-320"], "temperature"),
        (["train", "dataset.root=x", "network.dropout=1"], "network.dropout: 1.0 given"),
        (["record", "root=x", "seed=-1"], "seed: -1 given"),
        (["rollout", "policy=x", "episodes=0"], "episodes: 0 given"),
        (["fit", "runs=x.csv", "seed=-1"], "seed: -1 given"),
        (["demo", "seed=-1"], "seed: -1 given"),
    ],
)
def test_known_ones(words, said, capsys):
    assert cli.main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert said in line
