"""Files that appear whole on disk and say when they were damaged."""

import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyorder.errors import UserError, bad_value, reason

DIGEST = "sha256"
"""The key of a JSON file that holds the digest of all its others."""
CHECKSUM = "crc32"
"""The key of a line of JSON that holds the checksum of all its others."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes ``path`` at once when the block ends well, on disk for good.

    Makes its folder. If the block fails, ``path`` stays as it was. What a killed process left half written is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield staged
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what processes that no longer run left half written of the file ``path``, of all in a folder: ``*``."""
    for staged in path.parent.glob(f".{path.name}.*"):
        owner = staged.suffix[1:]
        if owner.isdecimal() and not is_alive(int(owner)):
            staged.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def writable(path: Path) -> bool:
    """Whether a file can be made there, with its folders."""
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as staged:
        staged.write_text(text, encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file whole, with a digest of its content under ``sha256``.

    Raises:
        ValueError: a number in it is not finite.
    """
    write_whole(path, json.dumps({**value, DIGEST: digest(value)}, indent=1, allow_nan=False) + "\n")


def read_json(path: Path, error: type[UserError] = UserError) -> dict[str, Any]:
    """Read a JSON file's object, without its digest; older files have none.

    Args:
        path: of the file.
        error: what to raise.

    Raises:
        FileNotFoundError: there is none; what that means, the caller knows.
        UserError: the file cannot be read, holds no object, or not what was written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.json"
    >>> write_json(path, {"step": 300})
    >>> read_json(path)
    {'step': 300}
    >>> _ = path.write_text(path.read_text().replace("300", "301"))
    >>> read_json(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    anyorder.errors.UserError: .../state.json: changed since it was written given, allowed: as written, ...
    """
    try:
        value = load_json(path.read_text(encoding="utf-8"))
        found = value.pop(DIGEST, None) if isinstance(value, dict) else None
        right = found is None or found == digest(value)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as failure:
        raise error(str(path), said(failure), "a JSON file that can be read") from failure
    if not isinstance(value, dict):
        raise error(str(path), Words(f"JSON of {type(value).__name__}"), "a JSON object, as {...}")
    if not right:
        raise error(changed(path, f"its {DIGEST!r} (without that entry a file changed on purpose is accepted)"))
    return value


def load_json(text: str) -> Any:
    """Return what JSON says; every number in it is finite.

    Raises:
        ValueError: it is no JSON, or holds NaN, Infinity or a number beyond those.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, parse_constant=_no_constant, parse_float=_finite)


def json_line(value: dict[str, Any]) -> str:
    """Return an object as one line of a JSON Lines file, with a checksum of its other entries under ``crc32``.

    >>> json_line({"step": 300})
    '{"step": 300, "crc32": "8f802e7e"}\\n'
    """
    return json.dumps({**value, CHECKSUM: checksum(value)}) + "\n"


def read_lines(path: Path, error: type[UserError] = UserError) -> list[dict[str, Any]]:
    """Read the objects of a JSON Lines file, without their checksums; older files have none.

    A last line without its end, which a kill leaves, is not read. Numbers may be NaN, as a loss may become.

    Raises:
        FileNotFoundError: there is none.
        UserError: a line is no object, or not what was written.
    """
    found = []
    try:
        # Only what precedes a newline was written whole.
        *lines, half = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as failure:
        raise error(str(path), said(failure), "one JSON object a line") from failure
    if half and not (half.startswith("{") and half.isprintable()):
        raise error(f"{path}, after line {len(lines)}", half[:40], "nothing, or the begin of a line")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as failure:
            raise error(where, said(failure), "a JSON object") from failure
        if not isinstance(value, dict):
            raise error(where, Words(f"JSON of {type(value).__name__}"), "a JSON object, as {...}")
        written = value.pop(CHECKSUM, None)
        if written is not None and written != checksum(value):
            allowed = f"as written, by its {CHECKSUM!r} (without that entry a line changed on purpose is accepted)"
            raise error(where, Words("changed since it was written"), allowed)
        found.append(value)
    return found


def checksum(value: Any) -> str:
    """Return a short checksum of what JSON can hold, whatever the order of its keys."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def digest(value: Any) -> str:
    """Return the digest of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Words(str):
    """Text that a message shows as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def flush_folder(folder: Path) -> None:
    """Write what the system still holds of a folder's files to the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Append an object to a JSON Lines file, whole or not at all, as on a full disk.

    It is the system's when this returns.
    """
    line = json_line(value).encode()
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that fills up takes a part, and refuses the rest at the next try
                line = line[file.write(line) :]
        except OSError:
            file.truncate(size)
            raise


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def said(failure: Exception) -> Words:
    """Return the beginning of what a failure says, for a message."""
    return Words(reason(failure)[:160])


def finite(value: Any) -> Any:
    """Replace what JSON cannot hold by None, in nested dicts and lists.

    >>> finite({"loss": float("nan"), "steps": (1, 2)})
    {'loss': None, 'steps': [1, 2]}
    """
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def changed(path: Path, where: str) -> str:
    """Return the message about a file that is not what was written; ``where`` its digest stands."""
    return bad_value(str(path), Words("changed since it was written"), f"as written, by the digest in {where}")
