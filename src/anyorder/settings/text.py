"""What the declaration of settings is turned into: defaults to compose, help, and tables of the documents."""

import dataclasses
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anyorder.settings.declaration import DECLARED, hints_of
from anyorder.settings.plain import join

REQUIRED = "???"
"""What stands for the value of a setting that has no default, as Hydra writes it."""

COLUMN, WIDTH = 29, 120
"""In the help, the column at which meanings start, and the length of a line."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        path: its dotted name.
        default: its value where none is given, ``REQUIRED`` without one.
        meaning: what it is.
        group: whether it holds further settings, whose rows follow.
        chosen: whether it holds a member of a family, which is chosen by name.
    """

    path: str
    default: Any
    meaning: str
    group: bool = False
    chosen: bool = False

    @property
    def shown(self) -> str:
        """Its default as the command line takes it."""
        return "" if self.group else words(self.default)


def rows(kind: type[Any], path: str = "", own_first: bool = True) -> Iterator[Row]:
    """Yield every setting that a dataclass declares, at any depth.

    Args:
        kind: the dataclass.
        path: where it is inside the whole.
        own_first: whether those it inherits come after its own, instead of before; below it they come before.

    >>> from anyorder.settings import Settings, setting
    >>> @dataclasses.dataclass
    ... class Legs(Settings):
    ...     count: int = setting(2, "How many.")
    >>> @dataclasses.dataclass
    ... class Robot(Settings):
    ...     name: str = setting(meaning="What it is called.")
    ...     legs: Legs = setting(Legs, "What it walks on.")
    >>> for row in rows(Robot):
    ...     print(row.path, row.shown, row.meaning)
    name ??? What it is called.
    legs  What it walks on.
    legs.count 2 How many.
    """
    hints = hints_of(kind)
    own = vars(kind).get("__annotations__", {}) if own_first else hints
    for field in sorted(dataclasses.fields(kind), key=lambda field: field.name not in own):
        here, meaning = join(path, field.name), ""
        if (declared := field.metadata.get(DECLARED)) is not None:
            meaning = declared.meaning
            if not all(name in meaning for name in declared.among):
                meaning += f" One of {', '.join(declared.among)}."
        hint = hints[field.name]
        if holds_member(hint):
            default = default_of(field)
            yield Row(here, getattr(default, "choice", default), meaning, chosen=True)
        elif dataclasses.is_dataclass(hint):
            yield Row(here, None, meaning, group=True)
            yield from rows(typing.cast(type[Any], hint), here, own_first=False)
        else:
            yield Row(here, default_of(field), meaning)


def holds_member(hint: Any) -> bool:
    """Whether a field of this type holds a member of a family."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = typing.get_args(hint) if union else (hint,)
    return any(getattr(kind, "choice", None) == "" for kind in kinds)


def default_of(field: dataclasses.Field[Any]) -> Any:
    """Return the default of a field."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return REQUIRED if field.default is dataclasses.MISSING else field.default


def defaults(kind: type[Any]) -> dict[str, Any]:
    """Return the defaults of all settings as nested dicts, without those that a family's member brings."""
    plain: dict[str, Any] = {}
    for row in rows(kind):
        *above, name = row.path.split(".")
        inner = plain
        for step in above:
            inner = inner[step]
        if not row.chosen:
            inner[name] = {} if row.group else row.default
    return plain


def words(value: Any) -> str:
    """Return a value as the command line takes it.

    >>> words(None), words(True), words([0.9, 0.95]), words("conv"), words({})
    ('null', 'true', '[0.9,0.95]', 'conv', '{}')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(words(each) for each in value)}]"
    return str(value)


def explained(kind: type[Any], chosen: Mapping[str, str]) -> list[str]:
    """Return the lines of a help: a setting each, those that belong together below their name.

    Args:
        kind: the dataclass.
        chosen: the members of families that are taken where none is named, by the settings that hold them.
    """
    lines = []
    for row in rows(kind):
        *above, name = row.path.split(".")
        default = chosen.get(row.path, row.shown)
        start = f"{'  ' * len(above)}{name}: {default}".rstrip()
        meaning = textwrap.wrap(row.meaning, WIDTH - COLUMN - 2) or [""]
        lines.append(f"{start:<{COLUMN - 1}} # {meaning[0]}".removesuffix(" # ").rstrip())
        lines += [f"{'':<{COLUMN}}# {more}" for more in meaning[1:]]
    return lines


def table(kind: type[Any], chosen: Mapping[str, str]) -> str:
    """Return a Markdown table of all settings.

    Args:
        kind: the dataclass.
        chosen: as of ``explained``.
    """
    return markdown(rows(kind), chosen)


def table_of_members(family: type[Any]) -> str:
    """Return a Markdown table of the settings of every member of a family, ``member.setting``."""
    members = sorted(family.choices.items())
    return markdown((row for name, kind in members for row in rows(kind, name)), {})


def markdown(declared: Iterable[Row], chosen: Mapping[str, str]) -> str:
    """Return a Markdown table of settings, those that only hold others left out.

    Args:
        declared: the settings.
        chosen: as of ``explained``.
    """
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for row in declared:
        if not row.group:
            default = chosen.get(row.path, row.shown)
            shown = "required" if default == REQUIRED else f"`{default}`"
            lines.append(f"| `{row.path}` | {shown} | {row.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)
