"""Files that appear whole, say when they were damaged, stay below their folder and have one owner at a time."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout

from anyorder.errors import ConfigError, UserError, bad_value

DIGEST = "sha256"
"""The key of a JSON file that holds the digest of all its others."""
SUMS = "SHA256SUMS"
"""The file of a folder that lists digests of the others in it, as the command ``sha256sum`` writes and checks them."""
READS_OF_SUMS = 10
"""How often that list is read while it changes, as that of a dataset does with each episode recorded."""
SUMS_LINE = re.compile("[0-9a-f]{64}  .+")
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
        raise error(bad_value(str(path), Words(_reason(failure)), "one JSON object a line")) from failure
    if half and not (half.startswith("{") and half.isprintable()):
        raise error(
            bad_value(f"{path}, after line {len(lines)}", half[:40], "nothing, or the begin of a line")
        )
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as failure:
            raise error(bad_value(where, Words(_reason(failure)), "a JSON object")) from failure
        if not isinstance(value, dict):
            raise error(bad_value(where, Words(f"JSON of {type(value).__name__}"), "a JSON object, as {...}"))
        written = value.pop(CHECKSUM, None)
        if written is not None and written != checksum(value):
            allowed = (
                f"as written, by its {CHECKSUM!r} (without that entry a line changed on purpose is accepted)"
            )
            raise error(bad_value(where, Words("changed since it was written"), allowed))
        found.append(value)
    return found


def checksum(value: Any) -> str:
    """Return a short checksum of what JSON can hold, whatever the order of its keys."""
    return f"{zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"


def digest(value: Any) -> str:
    """Return the digest of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_sums(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the digests of the files called ``names``, or of all files in ``folder``, into its ``SHA256SUMS``."""
    names = names or sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != SUMS)
    _write_sums(folder, {name: [file_digest(folder / name)] for name in names})


def update_sums(folder: Path, names: Iterable[str], error: type[UserError] = UserError) -> None:
    """Write the digests of files anew that were changed on purpose, or are new; the list keeps its other lines.

    Raises:
        UserError: the list cannot be read.
    """
    new = {name: [file_digest(folder / name)] for name in names}
    _write_sums(folder, read_sums(folder, error) | new)


def allow_sums(folder: Path, other: Path, names: Iterable[str]) -> None:
    """Let the list of ``folder`` accept each file called ``names`` both as it is and as it is in ``other``."""
    sums = read_sums(folder)
    for name in names:
        sums[name] = list(dict.fromkeys([*sums.get(name, []), file_digest(other / name)]))
    _write_sums(folder, sums)


def settle_sums(folder: Path) -> None:
    """Let the list of ``folder`` accept no file but as it is, where it has accepted two."""
    sums = read_sums(folder)
    found = {name: file_digest(folder / name) for name, digests in sums.items() if len(digests) > 1}
    for name, value in found.items():
        if value in sums[name]:
            sums[name] = [value]
    _write_sums(folder, sums)


def _write_sums(folder: Path, sums: Mapping[str, Iterable[str]]) -> None:
    lines = [f"{value}  {name}\n" for name in sorted(sums) for value in sums[name]]
    write_whole(folder / SUMS, "".join(lines))


def read_sums(folder: Path, error: type[UserError] = UserError) -> dict[str, list[str]]:
    """Return the digests that each file in the ``SHA256SUMS`` of ``folder`` may have; none where there is no list.

    Raises:
        UserError: the list cannot be read.
    """
    path = folder / SUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as failure:
        raise error(
            bad_value(str(path), Words(_reason(failure)), "lines of a digest and a name")
        ) from failure
    sums: dict[str, list[str]] = {}
    for line in lines:
        if not SUMS_LINE.fullmatch(line):
            raise error(bad_value(str(path), line[:160], "lines of a digest and a name"))
        sums.setdefault(line[66:], []).append(line[:64])
    return sums


def check_sums(
    folder: Path, names: Iterable[str] | None = None, error: type[UserError] = UserError, hint: str = ""
) -> None:
    """Check files against the ``SHA256SUMS`` of their folder; a file that it does not list is accepted.

    Files and list may be replaced meanwhile, as by a recording: what counts is whether they belong together.

    Args:
        folder: with the list.
        names: which files; None for all that are listed and there.
        error: what to raise.
        hint: what a message says of a file that was changed on purpose.

    Raises:
        UserError: a file is not what was written, or the list cannot be read.
    """
    sums = read_sums(folder, error)
    hint = hint or "without its line there a file changed on purpose is accepted"
    reads = 1
    for name in list(sums) if names is None else names:
        while name in sums and not _is_listed(folder, name, sums[name], error):
            before, sums, reads = sums[name], read_sums(folder, error), reads + 1
            if sums.get(name) == before or reads > READS_OF_SUMS:
                raise error(changed(folder / name, f"{folder / SUMS} ({hint})"))


def _is_listed(folder: Path, name: str, digests: Sequence[str], error: type[UserError]) -> bool:
    """Whether a file has one of the digests that its folder's list gives it, or is not there."""
    path = inside(folder, name, str(folder / SUMS), error)
    try:
        return not path.is_file() or file_digest(path) in digests
    except OSError as failure:
        raise error(bad_value(str(path), Words(_reason(failure)), "a file that can be read")) from failure


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
        ConfigError: it is there although it shall be new, or is the root of all folders.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    # One folder may have several names.
    folder = Path(os.path.realpath(folder))
    if not folder.name:
        raise ConfigError(bad_value(field, str(folder), f"a place below {folder}"))
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


def _reason(failure: Exception) -> str:
    lines = str(failure).strip().splitlines()
    return lines[0][:160] if lines else type(failure).__name__
