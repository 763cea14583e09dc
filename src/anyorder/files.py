"""Files that appear whole: a reader, or a kill, meets all of a file or nothing of it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a path to write to that becomes ``path`` at once when the block ends well, on disk for good.

    Makes its folder. If the block fails, ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield staged
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def writable(path: Path) -> bool:
    """Whether a file can be made there, with its folders."""
    there = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as staged:
        staged.write_text(text, encoding="utf-8")
