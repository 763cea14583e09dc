"""Families of configs that are chosen by name: factorizations, tokenizers, environments.

A member joins its family by being defined, so a new one needs one file and no registration elsewhere.
"""

import dataclasses
import importlib
import pkgutil
import typing
from typing import Any, ClassVar, Self

from anyorder.errors import ConfigError, did_you_mean
from anyorder.settings.declaration import Settings
from anyorder.settings.plain import from_plain


@dataclasses.dataclass
class Choice(Settings):
    """Base of a family of dataclass configs; direct subclasses start a family, named ones join it.

    >>> @dataclasses.dataclass
    ... class Shape(Choice): ...
    >>> @dataclasses.dataclass
    ... class Circle(Shape, choice="circle"):
    ...     radius: float = 1.0
    >>> Shape.named("circle", radius=2.0)
    Circle(radius=2.0)
    >>> Circle(3.0).choice, Circle(3.0).options()
    ('circle', {'radius': 3.0})
    """

    choice: ClassVar[str] = ""
    choices: ClassVar[dict[str, type[Any]]]

    def __init_subclass__(cls, *, choice: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Choice in cls.__bases__:
            cls.choices = {}
        if choice is not None:
            cls.choice = choice
            cls.choices[choice] = cls

    @classmethod
    def named(cls, name: str, /, **options: Any) -> Self:
        """Build the member called ``name`` with ``options`` as its fields.

        Raises:
            ConfigError: the name, or one of the options, does not exist, or a value is of the wrong type.

        >>> from anyorder.factorization import FactorizationConfig
        >>> FactorizationConfig.named("masked_diffusion", steps=8.5)
        Traceback (most recent call last):
        anyorder.errors.ConfigError: steps: 8.5 given, allowed: an integer
        """
        member = cls.member(name, cls.__name__.removesuffix("Config").lower())
        return typing.cast(Self, from_plain(member, options))

    @classmethod
    def member(cls, name: str, field: str) -> type[Any]:
        """Return the member called ``name``; ``field`` is what a message calls it."""
        if not isinstance(name, str) or name not in cls.choices:
            allowed = ", ".join(sorted(cls.choices)) + did_you_mean(str(name), cls.choices)
            raise ConfigError(field, name, allowed)
        return cls.choices[name]

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Return the settings that the command line offers by name; a member alone is one of its own name."""
        return {cls.choice: {}}

    @classmethod
    def in_short(cls) -> str:
        """Return the line of the help that stands for all presets; empty where each has a line of its own."""
        return ""

    def options(self) -> dict[str, Any]:
        """Return the fields as a JSON-ready dict; ``named(self.choice, **...)`` undoes it."""
        return dataclasses.asdict(self)


def import_members(package: str, path: list[str]) -> None:
    """Import every module of a package so that its members join their family."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
