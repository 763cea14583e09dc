"""Verbs that are killed, or interrupted, at a random moment or at a chosen write, and then go on.

What they make in the end is what an undisturbed run makes, and nothing else is left behind.
"""

import os
import random
import signal
import time
from functools import partial
from pathlib import Path

from verbs import HANG_S, Count, Ended, Process, Verb, at_write, content, fresh, run, warm_up, writes_of
from verbs import make_verbs as make

WEIGHTS = {"fit": 0.3, "report": 0.3, "tokenize": 0.3, "convert": 0.7}
"""Share of trials, next to the others, of verbs that write few files at their end."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def trials(count: int, verbs: list[Verb], folder: Path, seed: int = 0) -> list[Count]:
    """Disturb the verbs ``count`` times in all, as often at a write as at a random moment; return what came of it."""
    found = []
    total = sum(WEIGHTS.get(verb.name, 1.0) for verb in verbs)
    for verb in verbs:
        dice = random.Random(f"{seed} {verb.name}")
        began = time.monotonic()
        place = fresh(folder / "undisturbed")
        writes = writes_of(verb, place)
        seconds, right = time.monotonic() - began, content(place)
        killed, interrupted = Count(f"kill {verb.name}"), Count(f"interrupt {verb.name}")
        for trial in range(max(4, round(count * WEIGHTS.get(verb.name, 1.0) / total))):
            number = SIGNALS[trial // 2 % len(SIGNALS)]
            tally = killed if number == signal.SIGKILL else interrupted
            place = fresh(folder / "trial")
            if trial % 2:
                at = dice.randint(1, writes)
                when = f"signal {number} at write {at} of {writes}"
                ended = run(verb.command(place), partial(at_write, place, partial(end_self, at, number)))
            else:
                delay = dice.uniform(0, seconds)
                when = f"signal {number} after {delay:.2f} s"
                ended = disturbed(verb.command(place), delay, number)
            check(tally, verb, place, ended, number, when, right)
        found += [killed.told(), interrupted.told()]
    return found


def end_self(at: int, number: int, write: int) -> None:
    """Send this process a signal at its ``at``-th write."""
    if write == at:
        os.kill(os.getpid(), number)


def disturbed(words: list[str], delay: float, number: int) -> Ended:
    """Send a command a signal after so many seconds, counted from its start."""
    process = Process(words)
    time.sleep(delay)
    os.kill(process.pid, number)
    return process.wait(HANG_S)


def check(tally: Count, verb: Verb, place: Path, ended: Ended, number: int, when: str, right: dict[str, str]) -> None:
    """Let a disturbed verb go on, and compare."""
    tally.tried += 1
    if ended.status is None:
        tally.bad("hangs", when)
    elif ended.status == 128 + number:
        if len(ended.lines) != 1 or "interrupted" not in ended.error:
            tally.bad("tracebacks", f"{when}: not one line: {ended.error[-800:]}")
    elif ended.status not in (0, -number):  # -number: before the command had begun, as while Python starts
        tally.bad("tracebacks", f"{when}: status {ended.status}: {ended.error[-800:]}")
    after = run(verb.command(place, again=True))
    if after.status == 2 and len(after.lines) == 1 and content(place) == right:
        tally.refused += 1  # it had been done
    elif after.status is None:
        tally.bad("hangs", f"{when}, then again")
    elif after.status != 0:
        tally.bad("tracebacks", f"{when}, then again: status {after.status}: {after.error[-800:]}")
    elif (found := content(place)) != right:
        keys = sorted(k for k in found.keys() | right.keys() if found.get(k) != right.get(k))
        tally.bad("silent", f"{when}, then again: {keys[:5]} differ")
    else:
        tally.recovered += 1


def run_part(count: int, seed: int, folder: Path) -> list[Count]:
    """Do this part of the torture."""
    warm_up()
    return trials(count, make(folder / "inputs"), folder, seed)
