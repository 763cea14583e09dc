"""Errors a user can cause, each one line: which field, what was given, what is allowed."""

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """Bad input. The command line prints the message as one line and exits with status 2."""


class ConfigError(UserError):
    """A setting has a wrong name, type or value."""


class DatasetError(UserError):
    """A dataset is missing, damaged or does not fit its use."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or does not fit its use."""


class EnvError(UserError):
    """An environment is unknown, not installed or lacks what a policy needs."""


class DecodeError(UserError):
    """A token sequence does not stand for an action chunk."""


def bad_value(field: str, given: Any, allowed: str) -> str:
    """Return the one-line message every error of this package uses.

    >>> bad_value("steps", -1, "an integer >= 1")
    'steps: -1 given, allowed: an integer >= 1'
    """
    return f"{field}: {given!r} given, allowed: {allowed}"


def installed(what: str, extra: str) -> str:
    """Say how ``what`` is installed; the package is in no index, so that its source is named.

    >>> installed("an installed simulator", "aloha")
    "an installed simulator: pip install '.[aloha]' in the folder of anyorder's source"
    """
    return f"{what}: pip install '.[{extra}]' in the folder of anyorder's source"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest name, or an empty string.

    >>> did_you_mean("auturegressive", ["autoregressive", "regression"])
    ", did you mean 'autoregressive'?"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
