"""Files that appear whole, say when they were damaged, stay below their folder and have one owner at a time."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout

from anyorder.errors import ConfigError, UserError, bad_value

DIGEST = "sha256"
"""The key of a JSON file that holds the digest of all its others."""
SUMS = "SHA256SUMS"
"""The file of a folder that lists digests of the others in it, as the command ``sha256sum`` writes and checks them."""


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
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        found = value.pop(DIGEST, None) if isinstance(value, dict) else None
        right = found is None or found == digest(value)
    except (OSError, ValueError, RecursionError) as failure:
        raise error(
            bad_value(str(path), Words(_reason(failure)), "a JSON file that can be read")
        ) from failure
    if not isinstance(value, dict):
        raise error(bad_value(str(path), Words(f"JSON of {type(value).__name__}"), "a JSON object, as {...}"))
    if not right:
        raise error(
            changed(path, f"its {DIGEST!r} (without that entry a file changed on purpose is accepted)")
        )
    return value


def digest(value: Any) -> str:
    """Return the digest of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sums(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the digests of the files called ``names``, or of all files in ``folder``, into its ``SHA256SUMS``."""
    names = names or sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    write_whole(folder / SUMS, "".join(f"{file_digest(folder / name)}  {name}\n" for name in names))


def check_sums(folder: Path, names: Iterable[str], error: type[UserError] = UserError) -> None:
    """Check files against the ``SHA256SUMS`` of their folder; a file that it does not list is accepted.

    Raises:
        UserError: a file is not what was written, or the list cannot be read.
    """
    path = folder / SUMS
    if not path.is_file():
        return
    try:
        lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        sums = {name: value for value, name in lines}
    except (OSError, ValueError) as failure:
        raise error(
            bad_value(str(path), Words(_reason(failure)), "lines of a digest and a name")
        ) from failure
    for name in names:
        if (folder / name).is_file() and sums.get(name) not in (None, file_digest(folder / name)):
            hint = f"{path} (without its line there a file changed on purpose is accepted)"
            raise error(changed(folder / name, hint))


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def changed(path: Path, where: str) -> str:
    """Return the message about a file that is not what was written; ``where`` its digest stands."""
    return bad_value(
        str(path), Words("changed since it was written"), f"as written, by the digest in {where}"
    )


class Words(str):
    """Text that a message shows as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def inside(root: Path, name: str, field: str, error: type[UserError] = UserError) -> Path:
    """Return ``root / name``, where ``name`` comes from a file or a user and must not lead out of ``root``.

    Args:
        root: a folder.
        name: a relative path.
        field: what a message calls it.
        error: what to raise.

    Raises:
        UserError: an absolute path, ``..``, or a character that no file name has.

    >>> inside(Path("data"), "videos/top.mp4", "video_path").as_posix()
    'data/videos/top.mp4'
    >>> inside(Path("data"), "../top.mp4", "video_path")
    Traceback (most recent call last):
    anyorder.errors.UserError: video_path: '../top.mp4' given, allowed: a path below data
    """
    steps = PurePosixPath(name.replace("\\", "/"))
    leads_out = steps.is_absolute() or ".." in steps.parts or PureWindowsPath(name).anchor or "\0" in name
    if leads_out or not steps.parts:
        raise error(bad_value(field, name, f"a path below {root}"))
    return root / name


@contextmanager
def owned(folder: Path, field: str, new: str | None = None) -> Iterator[None]:
    """Keep every other process from writing to ``folder``, or the file of that name, meanwhile.

    The lock is a file beside the folder that the system frees when its process ends, however that ends. Among the
    processes of one training, the first one owns the folder for all.

    Args:
        folder: need not exist.
        field: what a message calls it.
        new: it must not be there, and is called so: "a new file".

    Raises:
        UserError: another process is writing there.
        ConfigError: it is there although it shall be new.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    # One folder may have several names.
    folder = Path(os.path.realpath(folder))
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file(folder))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            allowed = "one that no other process is writing to"
            raise UserError(bad_value(field, str(folder), allowed)) from None
        try:
            if new is not None and os.path.lexists(folder):
                raise ConfigError(bad_value(field, str(folder), new))
            yield
        finally:
            # Removed while it is held: who waits for it by name finds a new one. One that stays is only untidy.
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
            lock.release()
    finally:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def lock_file(folder: Path) -> Path:
    """Return the file that is locked while a process writes to ``folder``: beside it, or in it where it alone can be
    written to."""
    if folder.is_dir() and not os.access(folder.parent, os.W_OK | os.X_OK):
        return folder / ".lock"
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def whole_folder(folder: Path, field: str) -> Iterator[Path]:
    """Give a folder to write to that becomes ``folder`` at once when the block ends well, on disk for good.

    If the block fails it is removed, and so is what a killed process left of it: nobody else writes there, see
    ``owned``.

    Args:
        folder: must not exist.
        field: what a message calls it.

    Raises:
        ConfigError: it exists.
        UserError: another process is making it.
    """
    with owned(folder, field, new="a new folder"):
        staged = staged_folder(folder)
        shutil.rmtree(staged, ignore_errors=True)
        try:
            staged.mkdir(parents=True)
            yield staged
            flush_folder(staged)
            os.replace(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def staged_folder(folder: Path) -> Path:
    """Return where ``whole_folder`` writes until it is done."""
    return folder.with_name(f".{folder.name}.unfinished")


def flush_folder(folder: Path) -> None:
    """Write what the system still holds of a folder's files to the disk."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())


def append_line(path: Path, text: str) -> None:
    """Append a line to a file, whole or not at all, as on a full disk; it is the system's when this returns."""
    line = f"{text}\n".encode()
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


def _reason(failure: Exception) -> str:
    lines = str(failure).strip().splitlines()
    return lines[0][:160] if lines else type(failure).__name__
