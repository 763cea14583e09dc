"""The digests of a folder: ``SHA256SUMS``, as the command ``sha256sum`` writes and checks it."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from anyorder.errors import UserError
from anyorder.files import changed, said, write_whole
from anyorder.folders import inside

SUMS = "SHA256SUMS"
"""The file of a folder that lists digests of the others in it, as the command ``sha256sum`` writes and checks them."""


READS_OF_SUMS = 10
"""A list that changes meanwhile, as that of a dataset does with each episode recorded, is read at most so often."""


SUMS_LINE = re.compile("[0-9a-f]{64}  .+")


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
        raise error(str(path), said(failure), "lines of a digest and a name") from failure
    sums: dict[str, list[str]] = {}
    for line in lines:
        if not SUMS_LINE.fullmatch(line):
            raise error(str(path), line[:160], "lines of a digest and a name")
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
        raise error(str(path), said(failure), "a file that can be read") from failure


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
