"""What a setting is: its default, its meaning and what it may be, said once, where the field stands."""

import copy
import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anyorder.errors import ConfigError, check_number, did_you_mean

DECLARED = "declared"
"""The key of a field's metadata under which its ``Declared`` lies."""

BEFORE = "before"
"""The key of a field's metadata for what settings meant that were saved before the field, or its present default, was
there."""


hints_of: Callable[[Any], Mapping[str, Any]] = functools.cache(typing.get_type_hints)
"""Returns the type of each field of a dataclass; asked once a class."""


@dataclasses.dataclass(frozen=True)
class Declared:
    """What is known of a setting beside its name, type and default.

    Attributes:
        meaning: what it is, in words.
        least: smallest number allowed.
        most: largest number allowed.
        above: whether ``least`` itself is too small.
        below: whether ``most`` itself is too large.
        among: values allowed; all of the type when empty.
    """

    meaning: str
    least: float
    most: float
    above: bool
    below: bool
    among: tuple[str, ...]

    def check(self, name: str, value: Any, hint: Any) -> None:
        """Check a value of a field whose type is ``hint``; of a list, each member.

        Where the type allows a number or a list, the bounds are the number's.

        Raises:
            ConfigError: it is outside the bounds, or not among what is allowed.
        """
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = typing.get_args(hint) if union else (hint,)
        if value is None and type(None) in kinds:
            return
        lists = [kind for kind in kinds if typing.get_origin(kind) in (list, tuple)]
        plain = [kind for kind in kinds if kind not in lists and kind is not type(None)]
        if isinstance(value, list | tuple) and lists and plain:
            return
        if lists and not plain and not isinstance(value, list | tuple):
            raise ConfigError(name, value, "a list, as [a,b]")
        plain = plain or list(typing.get_args(lists[0]))
        values = value if isinstance(value, list | tuple) and lists else [value]
        for each in values:
            if self.among and each not in self.among:
                allowed = ", ".join(self.among) + did_you_mean(str(each), self.among)
                raise ConfigError(name, value, allowed)
            if self.least > -math.inf or self.most < math.inf:
                whole = plain[0] is int
                check_number(name, each, self.least, self.most, whole=whole, above=self.above, below=self.below)


def setting(
    default: Any = dataclasses.MISSING,
    meaning: str = "",
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float | None = None,
    below: float | None = None,
    among: Iterable[str] = (),
    before: Any = dataclasses.MISSING,
) -> Any:
    """Declare a field of a dataclass of settings.

    Args:
        default: its value where none is given. A list or dict is copied, a class or function called. Without one the
            setting is required, and given by name.
        meaning: what it is, in a short sentence: the help and the tables of the documents show it.
        least: smallest number allowed.
        most: largest number allowed.
        above: a number that is too small, as all below it are.
        below: a number that is too large, as all above it are.
        among: the values allowed.
        before: what settings meant that were saved before the field, or its present default, was there.

    >>> @dataclasses.dataclass
    ... class Walk(Settings):
    ...     steps: int = setting(30, "Steps to take.", least=1)
    ...     pace: float = setting(1.0, "Meters a second.", above=0, most=3)
    ...     ground: str = setting("grass", "What to walk on.", among=("grass", "sand"))
    >>> Walk(steps=3)
    Walk(steps=3, pace=1.0, ground='grass')
    >>> Walk(pace=0.0)
    Traceback (most recent call last):
    anyorder.errors.ConfigError: pace: 0.0 given, allowed: a number > 0 and <= 3
    >>> Walk(ground="ice")
    Traceback (most recent call last):
    anyorder.errors.ConfigError: ground: 'ice' given, allowed: grass, sand
    """
    declared = Declared(
        meaning,
        least if above is None else above,
        most if below is None else below,
        above is not None,
        below is not None,
        tuple(among),
    )
    metadata: dict[str, Any] = {DECLARED: declared}
    if before is not dataclasses.MISSING:
        metadata[BEFORE] = before
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata, kw_only=True)
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=functools.partial(copy.copy, default), metadata=metadata)
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class Settings:
    """Base of every dataclass of settings: what is made is checked against what its fields declare.

    A class that has more to check, as of two settings together, does so in ``__post_init__`` after ``super()``'s.
    """

    def __post_init__(self) -> None:
        """Check every declared field.

        Raises:
            ConfigError: the first that holds what it may not. Where the settings are part of others, whoever builds
                those says where they are mounted, by ``ConfigError.within``.
        """
        hints = hints_of(type(self))
        for field in dataclasses.fields(self):
            if (declared := field.metadata.get(DECLARED)) is not None:
                declared.check(field.name, getattr(self, field.name), hints[field.name])

    def check_given(self, given: Mapping[str, str]) -> None:
        """Refuse settings that somebody gave and that have no effect beside the others; here none are.

        Args:
            given: what was typed: values by the dotted names of settings.

        Raises:
            ConfigError: names one without an effect.
        """
