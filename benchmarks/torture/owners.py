"""Two processes of every verb at one place: the second is refused in one line and changes nothing.

The first is stopped at a write, so that the second finds it there for sure, and then goes on to its end.
"""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from verbs import (
    HANG_S,
    PATIENCE_S,
    Count,
    Process,
    Verb,
    at_write,
    content,
    fresh,
    make_verbs,
    run,
    warm_up,
    writes_of,
)


def trials(count: int, verbs: list[Verb], folder: Path, seed: int = 0) -> list[Count]:
    """Run two of each verb at once, ``count`` times in all."""
    found = []
    for verb in verbs:
        dice = random.Random(f"{seed} {verb.name}")
        place = fresh(folder / "undisturbed")
        writes, tally = writes_of(verb, place), Count(f"two {verb.name}")
        right = content(place)
        for _ in range(max(1, count // len(verbs))):
            tally.tried += 1
            at = dice.randint(1, max(1, writes - 4))
            place = fresh(folder / "trial")
            first = Process(verb.command(place), partial(at_write, place, partial(stop_self, place, at, [])))
            stopped(first.pid)
            before = content(place)
            second = run(verb.command(place, again=True), patience_s=HANG_S)
            if second.status is None:
                tally.bad("hangs", f"the second at write {at}")
            elif second.status != 2 or len(second.lines) != 1:
                tally.bad("tracebacks", f"the second at write {at}: {second.status} {second.error[-800:]}")
            elif content(place) != before:
                tally.bad("silent", f"the second at write {at} changed files")
            else:
                tally.refused += 1
            os.kill(first.pid, signal.SIGCONT)
            ended = first.wait(PATIENCE_S)
            if ended.status != 0:
                tally.bad("tracebacks", f"the first at write {at}: {ended.status} {ended.error[-800:]}")
            elif content(place) != right:
                tally.bad("silent", f"the first at write {at} made something else")
            else:
                tally.recovered += 1
        found.append(tally.told())
    return found


def stop_self(place: Path, at: int, stops: list[int], write: int) -> None:
    """Stop this process once, at its ``at``-th write or later, when it has locked the place; it may be continued."""
    if write >= at and not stops and any(place.rglob(".*lock")):
        stops.append(write)
        os.kill(os.getpid(), signal.SIGSTOP)


def stopped(pid: int) -> None:
    """Wait until a process has stopped or ended."""
    while True:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        if state in "TZ":
            return
        time.sleep(0.01)


def run_part(count: int, seed: int, folder: Path) -> list[Count]:
    """Do this part of the torture."""
    warm_up()
    return trials(count, make_verbs(folder / "inputs"), folder, seed)
