"""Files of every kind damaged in thousands of ways: each is refused in one line, or reads as it was.

``python benchmarks/torture mutations --count 4000 --seed 0`` prints a table. What an older version wrote has no
digest: there other values may be accepted, and only tracebacks, crashes and hangs count.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from material import OLD, Kind, copy, kinds, make, same

from anyorder.errors import UserError
from anyorder.sums import SUMS

Row = tuple[str, int, int, int, int, int, int]
HANG_S, START_S = 10.0, 120.0
OUTCOMES = ("refused", "unharmed", "traceback", "silent", "hang")
VALUES = (None, True, "", "x", [], {}, 0, -1, -7.5, 10**9, 10**30, 10**400, float("nan"), [[1]], {"a": 1})


def run(count: int, seed: int, folder: Path, jobs: int = 2, show: Callable[[str], None] = print) -> list[Row]:
    """Try ``count`` mutations, spread evenly over the kinds of files, in processes of their own.

    Args:
        count: mutations, each of one file.
        seed: of all of them.
        folder: new, for the files.
        jobs: kinds tried at once.
        show: told of every traceback, silent change and hang.

    Returns:
        A row a kind: what, tried, refused, unharmed, tracebacks (crashes among them), silent, hangs.
    """
    good = folder / "good"
    good.mkdir()
    make(good)
    # The server that the processes are forked from imports all that is slow once, and finds it by this path.
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    tasks = [(good, name) for name in kinds(good)]
    tasks += [(good / OLD, name) for name in kinds(good) if not name.endswith(SUMS)]
    shares = [count // len(tasks) + (i < count % len(tasks)) for i in range(len(tasks))]
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(row, *task, share, seed, folder, show) for task, share in zip(tasks, shares, strict=True)
        ]
        return [one.result() for one in waiting]


def row(source: Path, name: str, count: int, seed: int, folder: Path, show: Callable[[str], None]) -> Row:
    """Try ``count`` mutations of one kind; a process that dies or hangs is followed by another."""
    what = f"{name}, without digests" if source.name == OLD else name
    counts: Counter[str] = Counter()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["material"])
    at = 0
    while at < count:
        here = Path(tempfile.mkdtemp(dir=folder))
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, source, here, name, range(at, count), seed))
        process.start()
        theirs.close()
        try:
            for outcome, note in results(ours, process):
                if outcome == "silent" and source.name == OLD:
                    outcome = "unharmed"
                counts[outcome] += 1
                at += 1
                if outcome not in ("refused", "unharmed"):
                    show(f"{what}, mutation {at - 1}: {outcome}: {note}")
        finally:
            with_children(process)
            shutil.rmtree(here, ignore_errors=True)
    print(f"{what}: {count} tried", file=sys.stderr, flush=True)
    return (what, count, *(counts[outcome] for outcome in OUTCOMES))


def results(pipe: Connection, process: Any) -> Iterator[tuple[str, str]]:
    """Give the outcome of each mutation; the last one may be a crash or a hang."""
    patience = START_S
    ready = False
    while True:
        if not pipe.poll(patience):
            yield "hang", f"nothing for {patience:.0f} s"
            return
        try:
            found = pipe.recv()
        except EOFError:
            process.join()
            if not ready:
                raise RuntimeError(f"{process.name} cannot read what is whole") from None
            yield "traceback", f"the process died, exit status {process.exitcode}"
            return
        patience = HANG_S
        if found == "ready":
            ready = True
            continue
        if found == "done":
            return
        yield found


def with_children(process: Any) -> None:
    """End a process and those that it has started."""
    import psutil

    try:
        all_of_them = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        all_of_them = []
    for each in all_of_them:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.join()


def work(pipe: Connection, source: Path, here: Path, name: str, cases: range, seed: int) -> None:
    """Try some mutations of one kind on a copy of everything, telling the outcome of each."""
    import torch

    torch.set_num_threads(1)
    silence()
    kind = kinds(source)[name]
    for path in source.iterdir():
        if path.name != OLD:
            copy(path, here / path.name)
    path = here / kind.file
    good, wanted = path.read_bytes(), kind.read(here)
    pipe.send("ready")
    for case in cases:
        chance = random.Random(f"{seed} {name} {case}")
        how, damaged = mutated(good, path.suffix, chance)
        path.write_bytes(damaged)
        outcome, note = tried(kind, here, wanted, cut=good.startswith(damaged))
        if path.read_bytes() != damaged and outcome == "unharmed":
            outcome, note = "silent", "the file was written to"
        pipe.send((outcome, f"{how}: {note}"))
        path.write_bytes(good)
    pipe.send("done")


def silence() -> None:
    """Send what libraries print elsewhere; a traceback is told through the pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def tried(kind: Kind, here: Path, wanted: Any, cut: bool) -> tuple[str, str]:
    """Read a damaged file, maybe one that was only cut; returns the outcome and what it was."""
    try:
        found = kind.read(here)
    except UserError as error:
        line = str(error)
        return ("refused", line) if "\n" not in line else ("traceback", f"more than one line: {line!r}")
    except BaseException as error:
        import traceback

        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "traceback", f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"[:400]
    if kind.log and cut:
        wanted = wanted[: len(found)]
    return ("unharmed", "") if same(wanted, found) else ("silent", "other values")


def mutated(good: bytes, suffix: str, chance: random.Random) -> tuple[str, bytes]:
    """Return in which way, and the content of, a damaged file; never what it was."""
    for _ in range(100):
        structured = suffix in (".json", ".jsonl") and chance.random() < 0.6
        how, damaged = in_json(good, suffix, chance) if structured else in_bytes(good, chance)
        if damaged != good:
            return how, damaged
    return "emptied", b""


def in_bytes(good: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damage a file as a disk or a cut transfer does."""
    # Headers are short, and what they say is worth the most.
    at = chance.randrange(len(good)) if chance.random() < 0.7 else chance.randrange(min(64, len(good)))
    if chance.random() < 0.15:
        at = len(good) - 1 - at
    how = chance.choice(["bit", "bit", "byte", "bytes", "zeros", "truncated", "emptied", "appended", "removed"])
    if how == "bit":
        return how, good[:at] + bytes([good[at] ^ 1 << chance.randrange(8)]) + good[at + 1 :]
    if how == "byte":
        return how, good[:at] + chance.randbytes(1) + good[at + 1 :]
    if how in ("bytes", "zeros"):
        size = min(chance.choice([2, 8, 64, 4096]), len(good) - at)
        return how, good[:at] + (chance.randbytes(size) if how == "bytes" else bytes(size)) + good[at + size :]
    if how == "truncated":
        return how, good[:at]
    if how == "appended":
        return how, good + chance.choice([b"\0" * 64, b"garbage", chance.randbytes(512), good])
    return how, b"" if how == "emptied" else good[:at] + good[at + chance.choice([1, 7, 100]) :]


def in_json(good: bytes, suffix: str, chance: random.Random) -> tuple[str, bytes]:
    """Change what JSON says: one key gone, one value of another type or size."""
    text = good.decode()
    if suffix == ".jsonl":
        lines = text.splitlines(keepends=True)
        at = chance.randrange(len(lines))
        value = json.loads(lines[at])
        how = change(value, chance)
        lines[at] = json.dumps(value).replace('"1e999"', "1e999") + "\n"
        return how, "".join(lines).encode()
    value = json.loads(text)
    how = change(value, chance)
    return how, json.dumps(value, indent=1).replace('"1e999"', "1e999").encode()


def change(value: Any, chance: random.Random) -> str:
    """Change one entry of nested dicts and lists, in place."""
    places = list(entries(value))
    if not places:
        return "nothing"
    holder, key = chance.choice(places)
    if chance.random() < 0.25:
        del holder[key]
        return f"without {key!r}"
    old = holder[key]
    new = chance.choice([*VALUES, "1e999", "../../x", "/etc/passwd"])
    if isinstance(old, int | float) and not isinstance(old, bool) and chance.random() < 0.5:
        new = chance.choice([old + 1, -old, old * 1000, old / 2, str(old), [old], float(old)])
    holder[key] = new
    return f"{key!r} {str(old)[:20]} to {str(new)[:20]}"


def entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give every place in nested dicts and lists: what holds it, and its key."""
    for key, held in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(held, dict | list):
            yield from entries(held)
