"""Settings: declared once, as fields of dataclasses; checked, explained and read from that declaration.

``declaration`` says what a field may hold, ``families`` which dataclass a name chooses, ``plain`` reads and writes
nested dicts, and ``text`` makes help, tables and defaults of what is declared.
"""

from anyorder.settings.declaration import Settings, setting
from anyorder.settings.families import Choice, import_members
from anyorder.settings.plain import TYPE_KEY, checked, completed, convert, dotted, from_plain, join, part_of, to_plain

__all__ = [
    "TYPE_KEY",
    "Choice",
    "Settings",
    "checked",
    "completed",
    "convert",
    "dotted",
    "from_plain",
    "import_members",
    "join",
    "part_of",
    "setting",
    "to_plain",
]
