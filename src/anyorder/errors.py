"""Errors a user can cause, each one line: which field, what was given, what is allowed."""

import difflib
import errno
import math
from collections.abc import Iterable, Sequence
from typing import Any, Self

MAX_COUNT = 2**31 - 1
"""Largest seed, and largest number of anything: what random generators and simulators take."""
MAX_SIDE = 16_384
"""Most pixels a picture may have along a side."""


class UserError(ValueError):
    """Bad input. The command line prints the message as one line and exits with status 2.

    It is made of a field, what was given and what is allowed, or of a message alone.

    >>> print(UserError("steps", -1, "an integer >= 1"))
    steps: -1 given, allowed: an integer >= 1
    >>> print(UserError("steps", -1, "an integer >= 1").within("train"))
    train.steps: -1 given, allowed: an integer >= 1
    """

    def __init__(self, message: str, *found: Any) -> None:
        super().__init__(bad_value(message, *found) if found else message)
        self.names_field = bool(found)

    def within(self, place: str) -> Self:
        """Return the same error of a field that is mounted at ``place``; a message without a field stays."""
        if self.names_field and place:
            self.args = (f"{place}.{self}",)
        return self


def together(errors: Sequence[UserError]) -> UserError:
    """Return one error that says all of them, of the first one's kind; a single one as it is.

    >>> print(together([ConfigError("steps", 0, "1 or more"), ConfigError("width", 3, "a multiple of 8")]))
    steps: 0 given, allowed: 1 or more; width: 3 given, allowed: a multiple of 8
    """
    return errors[0] if len(errors) == 1 else type(errors[0])("; ".join(map(str, errors)))


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


class NotFiniteError(UserError):
    """An observation, a weight or a network's answer is NaN or infinite, so that no action can be made of it.

    Attributes:
        rows: of the batch, those it is about; empty where it is about all.
    """

    def __init__(self, message: str, *found: Any, rows: Iterable[int] = ()) -> None:
        super().__init__(message, *found)
        self.rows = tuple(rows)


class DivergedError(UserError):
    """A loss, a score, a gradient or a weight of a training is no longer finite."""


def bad_value(field: str, given: Any, allowed: str) -> str:
    """Return the one-line message every error of this package uses.

    >>> bad_value("steps", -1, "an integer >= 1")
    'steps: -1 given, allowed: an integer >= 1'
    """
    return f"{field}: {given!r} given, allowed: {allowed}"


def check_number(
    field: str,
    given: Any,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    whole: bool = False,
    above: bool = False,
    below: bool = False,
    error: type[UserError] = ConfigError,
) -> None:
    """Check that a number is finite and in its range.

    Args:
        field: what a message calls it.
        given: what was given, of any type.
        least: smallest allowed.
        most: largest allowed.
        whole: whether it has to be an integer.
        above: whether ``least`` itself is too small.
        below: whether ``most`` itself is too large.
        error: what to raise.

    Raises:
        UserError: it is no number, not finite or outside the range.

    >>> check_number("fps", 30, 0, above=True)
    >>> check_number("fps", 0, 0, above=True)
    Traceback (most recent call last):
    anyorder.errors.ConfigError: fps: 0 given, allowed: a number > 0
    >>> check_number("seed", 1.5, 0, 9, whole=True)
    Traceback (most recent call last):
    anyorder.errors.ConfigError: seed: 1.5 given, allowed: an integer >= 0 and <= 9
    """
    kind = int if whole else (int, float)
    right = isinstance(given, kind) and not isinstance(given, bool)
    # An integer too large for a float is compared as it is; NaN fails every comparison.
    inside = right and (least < given if above else least <= given) and (given < most if below else given <= most)
    if inside and abs(given) < math.inf:
        return
    ends = [f"{'>' if above else '>='} {least:.10g}"] if least > -math.inf else []
    ends += [f"{'<' if below else '<='} {most:.10g}"] if most < math.inf else []
    noun = "an integer" if whole else "a number" if ends else "a finite number"
    raise error(field, given, " ".join([noun, " and ".join(ends)]).strip())


def reason(error: BaseException) -> str:
    r"""Return the first line of an error's text, or its type where it has none.

    >>> reason(OSError("\nno such name\nlook elsewhere")), reason(TimeoutError(""))
    ('no such name', 'TimeoutError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


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
