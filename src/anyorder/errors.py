"""Errors a user can cause, each one line: which field, what was given, what is allowed."""

import difflib
import errno
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


def system_failure(error: BaseException) -> str | None:
    """Return in one line what the operating system refused, as room on a disk, if ``error`` says that; else None.

    Libraries in other languages wrap it in errors of their own; of those, torch's and safetensors' are known.

    >>> system_failure(FileNotFoundError(2, "No such file or directory", "runs/a"))
    'runs/a: No such file or directory'
    """
    found: BaseException | None = error
    while found is not None:
        text = " ".join(str(found).split())[:200]
        if isinstance(found, OSError):
            reason = found.strerror if isinstance(found.strerror, str) else text
            reason = " ".join(reason.split())[:200] or type(found).__name__
            return reason if found.filename is None else f"{found.filename}: {reason}"
        if type(found).__name__ == "SafetensorError" and ("os error" in text or "I/O error" in text):
            return text
        # torch.save first fails to write, and then to finish the file.
        if isinstance(found, RuntimeError) and ("PytorchStreamWriter" in text or "unexpected pos" in text):
            return "a file of tensors could not be written: is the disk full?"
        found = found.__cause__
    return None


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def no_room(error: BaseException) -> bool:
    """Whether the disk takes nothing more, so that whatever is tried next would fail, too."""
    return system_failure(error) is not None and getattr(error, "errno", errno.ENOSPC) in NO_ROOM


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the closest name, or an empty string.

    >>> did_you_mean("auturegressive", ["autoregressive", "regression"])
    ", did you mean 'autoregressive'?"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
