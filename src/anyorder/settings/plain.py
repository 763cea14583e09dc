"""Between nested plain dicts (YAML, JSON, command line) and the dataclasses that hold settings."""

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anyorder.errors import ConfigError, UserError, did_you_mean
from anyorder.settings.declaration import BEFORE, hints_of

TYPE_KEY = "type"
"""The key that names the member where a field may hold one of a family."""


def completed(kind: type[Any], saved: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return settings that an earlier version saved with all that it left unsaid: what was meant then (``BEFORE``), or
    the default.

    Args:
        kind: the dataclass they are of, or the base of a family of them.
        saved: nested dicts by field name.
        path: where this is inside the whole, for messages.

    Raises:
        ConfigError: an unknown member of a family, or a value in the place of settings.

    >>> from anyorder.settings import setting
    >>> @dataclasses.dataclass
    ... class Sampler:
    ...     steps: int = setting(0, before=32)
    ...     nucleus: float = 1.0
    >>> completed(Sampler, {}), completed(Sampler, {"steps": 8})
    ({'steps': 32, 'nucleus': 1.0}, {'steps': 8, 'nucleus': 1.0})
    """
    if TYPE_KEY in saved and getattr(kind, "choice", None) == "":
        kind = kind.member(saved[TYPE_KEY], join(path, TYPE_KEY))
    full = dict(saved)
    hints = hints_of(kind)
    for field in dataclasses.fields(kind):
        name, inner = field.name, hints[field.name]
        if name in full:
            if dataclasses.is_dataclass(inner):
                check_settings(full[name], join(path, name))
                full[name] = completed(typing.cast(type[Any], inner), full[name], join(path, name))
        elif BEFORE in field.metadata:
            full[name] = field.metadata[BEFORE]
        elif field.default is not dataclasses.MISSING:
            full[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
            full[name] = to_plain(default) if dataclasses.is_dataclass(default) else default
    return full


def to_plain(config: Any) -> dict[str, Any]:
    """Return a dataclass as nested dicts, the name of each chosen member under ``type``.

    >>> from anyorder.factorization import FactorizationConfig
    >>> to_plain(FactorizationConfig.named("block_diffusion", steps=4))  # doctest: +ELLIPSIS
    {'type': 'block_diffusion', 'sampler': 'left_to_right', 'steps': 4, ..., 'block_size': 6}
    """
    plain: dict[str, Any] = {TYPE_KEY: config.choice} if getattr(config, "choice", "") else {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            value = to_plain(value)
        elif isinstance(value, list | tuple):
            value = [to_plain(v) if dataclasses.is_dataclass(v) else v for v in value]
        elif isinstance(value, dict):
            value = {k: to_plain(v) if dataclasses.is_dataclass(v) else v for k, v in value.items()}
        plain[field.name] = value
    return plain


def part_of[T](kind: type[T], config: Any) -> T:
    """Return the settings of one kind out of those of a command, which holds several side by side.

    >>> from anyorder.networks import TransformerConfig
    >>> @dataclasses.dataclass
    ... class Both(TransformerConfig):
    ...     steps: int = 3
    >>> part_of(TransformerConfig, Both(width=64)).width
    64
    """
    return kind(**{f.name: getattr(config, f.name) for f in dataclasses.fields(kind)})  # type: ignore[arg-type]


def from_plain(kind: type[Any], plain: Mapping[str, Any], path: str = "") -> Any:
    """Build the dataclass ``kind`` from nested dicts, checking every name and type.

    Args:
        kind: a dataclass, or the base of a family of them.
        plain: values by field name; fields left out keep their defaults.
        path: where this is inside the whole, for messages.

    Raises:
        ConfigError: an unknown name, or a value of the wrong type.

    >>> from anyorder.networks import TransformerConfig
    >>> from_plain(TransformerConfig, {"width": 64}).width
    64
    >>> from_plain(TransformerConfig, {"widht": 64}, "network")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    anyorder.errors.ConfigError: network.widht: 64 given, allowed: width, depth, ..., did you mean 'width'?
    """
    values = dict(plain)
    if getattr(kind, "choice", None) == "":  # the base of a family, not a member
        if TYPE_KEY not in values:
            raise ConfigError(join(path, TYPE_KEY), None, ", ".join(sorted(kind.choices)))
        kind = kind.member(values.pop(TYPE_KEY), join(path, TYPE_KEY))
    hints = hints_of(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for name, value in values.items():
        if name not in names:
            allowed = ", ".join(names) + did_you_mean(name, names)
            raise ConfigError(join(path, name), value, allowed)
    for field in dataclasses.fields(kind):
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in values and not optional:
            allowed = WORDS.get(hints[field.name], "a value")
            raise ConfigError(join(path, field.name), None, allowed)
    converted = {name: convert(hints[name], value, join(path, name)) for name, value in values.items()}
    try:
        return kind(**converted)
    except UserError as error:
        error.within(path)
        raise


def convert(hint: Any, value: Any, path: str) -> Any:
    """Check ``value`` against a type hint and return it as that type.

    >>> convert(float, 1, "lr"), convert(tuple[float, float], [0.9, 0.95], "betas"), convert(int | None, None, "n")
    (1.0, (0.9, 0.95), None)
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        inners = [a for a in arguments if a is not type(None)]
        # Of a number or a list of them, a list is the list.
        lists = [a for a in inners if typing.get_origin(a) is list]
        others = [a for a in inners if a not in lists]
        (inner,) = lists if isinstance(value, list | tuple) and lists else others or lists
        if lists and others and not isinstance(value, list | tuple | inner):
            raise ConfigError(path, value, f"{WORDS[inner]}, or a list, as [a,b]")
        return convert(inner, value, path)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(path, value, "a list, as [a,b]")
        if origin is tuple and arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if origin is tuple and len(value) != len(arguments):
            raise ConfigError(path, list(value), f"a list of {len(arguments)}")
        inner = arguments if origin is tuple else arguments * len(value)
        return origin(convert(h, v, f"{path}[{i}]") for i, (h, v) in enumerate(zip(inner, value, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(path, value, "settings by name, as a.b=value")
        if arguments[1] is str:
            value = dotted(value)  # names of features have dots, which Hydra reads as levels
        return {str(key): convert(arguments[1], v, join(path, str(key))) for key, v in value.items()}
    if dataclasses.is_dataclass(hint):
        check_settings(value, path)
        return from_plain(typing.cast(type[Any], hint), value, path)
    if hint is Any:
        return value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        if isinstance(value, hint):
            return value
        if not isinstance(value, str) or value not in hint.__members__:
            raise ConfigError(path, value, ", ".join(hint.__members__))
        return hint[value]
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)  # a folder may be called 1
    # No setting is infinite, and what is written in Python's own integers has to fit everyone else's.
    if (isinstance(value, float) and not math.isfinite(value)) or (type(value) is int and abs(value) >= 2**63):
        raise ConfigError(path, value, f"{WORDS.get(hint, hint.__name__)}, finite and below 2^63")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(path, value, WORDS.get(hint, hint.__name__))
    return value


def check_settings(value: Any, path: str) -> None:
    """Refuse what is no settings by name.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(path, value, "settings, as a.b=value")


def checked(hints: Mapping[str, Any], plain: Any, path: Path, error: type[UserError]) -> dict[str, Any]:
    """Return what a JSON file holds, each value checked against the type it is declared to have.

    Args:
        hints: type by name. A name whose type allows None may be missing, the others may not; names that are not
            declared stay as they are.
        plain: as read.
        path: of the file, for messages.
        error: what to raise.

    Raises:
        UserError: a name is missing, or a value of the wrong type.

    >>> checked({"step": int, "note": str | None}, {"step": 3}, Path("state.json"), ConfigError)
    {'step': 3, 'note': None}
    >>> checked({"step": int}, {"step": "3"}, Path("state.json"), ConfigError)
    Traceback (most recent call last):
    anyorder.errors.ConfigError: state.json: step: '3' given, allowed: an integer
    """
    try:
        for name, hint in hints.items():
            if name not in plain and type(None) not in typing.get_args(hint):
                raise ConfigError(name, None, WORDS.get(hint, "a value"))
        return {**plain, **{name: convert(hint, plain.get(name), name) for name, hint in hints.items()}}
    except ConfigError as wrong:
        raise error(f"{path}: {wrong}") from wrong


WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}


def dotted(plain: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name.

    >>> dotted({"steps": 3, "dataset": {"root": "a", "mix": []}})
    {'steps': 3, 'dataset.root': 'a', 'dataset.mix': []}
    """
    found: dict[str, Any] = {}
    for key, value in plain.items():
        here = join(path, str(key))
        found |= dotted(value, here) if isinstance(value, Mapping) else {here: value}
    return found


def join(path: str, name: str) -> str:
    """Return the dotted path of a field."""
    return f"{path}.{name}" if path else name
