"""Disks that fill up, files that may not be written and files in the way: one line, and then the same command works.

Nothing here needs rights or a disk of its own: at a chosen write, and at every later one, the system's answer is
made up, or files of this process may not grow beyond a size.
"""

import errno
import os
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from verbs import Count, Verb, at_write, content, fresh, limit_files, make_verbs, run, warm_up, writes_of

REFUSALS = (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO)
SIZES = (0, 100, 1000, 4000, 16_000, 64_000)


def trials(count: int, verbs: list[Verb], folder: Path, seed: int = 0) -> list[Count]:
    """Give the verbs trouble ``count`` times in all."""
    found = []
    for verb in verbs:
        dice = random.Random(f"{seed} {verb.name}")
        place = fresh(folder / "undisturbed")
        writes, tally = writes_of(verb, place), Count(f"disk {verb.name}")
        right = content(place)
        for trial in range(max(6, count // len(verbs))):
            place = fresh(folder / "trial")
            if trial % 3 == 2:
                size = SIZES[trial // 3 % len(SIZES)]
                attempt(tally, verb, place, partial(limit_files, size), f"files of {size} bytes", right)
            else:
                at, code = dice.randint(1, writes), dice.choice(REFUSALS)
                trouble = partial(at_write, place, partial(refuse, at, code))
                attempt(tally, verb, place, trouble, f"{errno.errorcode[code]} from write {at} on", right)
        in_the_way(tally, verb, folder)
        found.append(tally.told())
    return found


def refuse(at: int, code: int, write: int) -> None:
    """Answer a write as the system does that takes none."""
    if write >= at:
        raise OSError(code, os.strerror(code))


def attempt(
    tally: Count, verb: Verb, place: Path, trouble: Callable[[], None], what: str, right: dict[str, str]
) -> None:
    """Run a verb in trouble, then without."""
    tally.tried += 1
    ended = run(verb.command(place), trouble)
    if ended.status is None:
        return tally.bad("hangs", what)
    if ended.status == 2 and len(ended.lines) == 1:
        tally.refused += 1
    elif ended.status != 0 or "Traceback" in ended.error:
        tally.bad("tracebacks", f"{what}: status {ended.status}: {ended.error[-800:]}")
    after = run(verb.command(place, again=True))
    done = after.status == 2 and len(after.lines) == 1 and content(place) == right
    if after.status != 0 and not done:
        return tally.bad("tracebacks", f"{what}, then again: status {after.status}: {after.error[-800:]}")
    if (found := content(place)) != right:
        keys = sorted(k for k in found.keys() | right.keys() if found.get(k) != right.get(k))
        return tally.bad("silent", f"{what}, then again: {keys[:5]} differ")
    tally.recovered += 1
    return None


def in_the_way(tally: Count, verb: Verb, folder: Path) -> None:
    """Run a verb where a file is in the place of its output, or of the folder that it shall lie in."""
    for inner in ("", verb.out):
        place = folder / "trial"
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        (place / inner).parent.mkdir(parents=True, exist_ok=True)
        (place / inner).write_text("mine")
        for again in (False, True):
            tally.tried += 1
            ended = run(verb.command(place, again))
            if ended.status != 2 or len(ended.lines) != 1:
                tally.bad("tracebacks", f"a file in the way: status {ended.status}: {ended.error[-800:]}")
            elif (place / inner).read_text() != "mine":
                tally.bad("silent", "a file in the way was overwritten")
            else:
                tally.refused += 1


def run_part(count: int, seed: int, folder: Path) -> list[Count]:
    """Do this part of the torture."""
    warm_up()
    return trials(count, make_verbs(folder / "inputs"), folder, seed)
