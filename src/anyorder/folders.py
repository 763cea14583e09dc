"""Folders that appear whole, have one owner at a time, and hold nothing from outside."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from filelock import FileLock, Timeout

from anyorder.errors import ConfigError, UserError
from anyorder.files import flush_folder


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
        raise error(field, name, f"a path below {root}")
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
        ConfigError: it is there although it has to be new, or is the root of all folders.
        OSError: no file can be made there.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        yield
        return
    # One folder may have several names.
    folder = Path(os.path.realpath(folder))
    if not folder.name:
        raise ConfigError(field, str(folder), f"a place below {folder}")
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file(folder))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            # Where the system lets nobody make files, as below /proc, this says so.
            with Path(lock.lock_file).open("ab"):
                pass
            allowed = "one that no other process is writing to"
            raise UserError(field, str(folder), allowed) from None
        try:
            if new is not None and os.path.lexists(folder):
                raise ConfigError(field, str(folder), new)
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
    with owned(folder, field, new="a new folder"), becoming(folder, staged_folder(folder)) as staged:
        yield staged


@contextmanager
def becoming(folder: Path, staged: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give the new folder ``staged``, which becomes ``folder`` at once when the block ends well, on disk for good.

    It is the one way in which a folder becomes whole, except an episode that joins a dataset: see
    ``anyorder.datasets.write.commit``. The caller sees to it that nobody else writes there, see ``owned``.

    Args:
        folder: where it is to be.
        staged: a place on the same disk, of which nothing is kept: neither what a killed process left nor what a
            block that fails leaves.
        replace: ``folder`` may exist, and is replaced.
    """
    shutil.rmtree(staged, ignore_errors=True)
    try:
        staged.mkdir(parents=True)
        yield staged
        flush_folder(staged)
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        os.replace(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def staged_folder(folder: Path) -> Path:
    """Return where ``whole_folder`` writes until it is done."""
    return folder.with_name(f".{folder.name}.unfinished")
