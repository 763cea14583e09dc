"""Every verb that writes, on data so small that it takes about a second, and processes that run it with trouble."""

import contextlib
import functools
import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

HANG_S = 10.0
"""Seconds after which a verb that was ended, or must not begin, hangs."""
PATIENCE_S = 240.0
"""Seconds after which a verb that works on data this small hangs."""
TIMES = (
    "wall_s",
    "cpu_s",
    "seconds",
    "step_s",
    "data_s",
    "chunk_latency_ms",
    "single_chunk_latency_ms",
    "sha256",
    "crc32",
    "resume",
)
"""What differs between two runs of the same command."""
NETWORK = ["network={width: 16, depth: 1, heads: 2}", "encoder={tokens: 2, hidden: 16}"]
STUDY = """
families: {ar: {type: autoregressive}, masked: {type: masked_diffusion}}
grids: {main: {families: [ar, masked], width: [16], unique_tokens: [100], epochs: [3]}}
evaluation: {chunks: 8, test_chunks: 8, draws: 1, test_draws: 1}
dataset: {validation_fraction: 0.34, test_fraction: 0.34}
chunk_size: 4
"""


@dataclass(frozen=True)
class Verb:
    """A command that writes.

    Attributes:
        name: what the tables call it.
        words: the command; ``{out}`` stands for what it makes.
        again: words to add so that it goes on.
        out: name of what it makes.
    """

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    out: str = "out"

    def command(self, folder: Path, again: bool = False) -> list[str]:
        """Return its words, to work in ``folder``."""
        added = self.again if again else ()
        return [word.replace("{out}", str(folder / self.out)) for word in (*self.words, *added)]


@dataclass
class Ended:
    """How a process ended.

    Attributes:
        status: its exit status; minus the signal that ended it; None where it had to be ended.
        error: what it wrote to stderr.
        seconds: that it took; after it was ended by a signal, from there.
    """

    status: int | None
    error: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """What stands on stderr, without the warnings of libraries."""
        lines = [line for line in self.error.splitlines() if line.strip()]
        return [line for line in lines if not line.startswith("WARNING")]


@dataclass
class Count:
    """What came of the trials of one kind."""

    name: str
    tried: int = 0
    refused: int = 0
    recovered: int = 0
    tracebacks: int = 0
    silent: int = 0
    hangs: int = 0
    notes: list[str] = field(default_factory=list)

    def row(self) -> tuple[str, int, int, int, int, int, int]:
        """Return the line of a table."""
        return self.name, self.tried, self.refused, self.recovered, self.tracebacks, self.silent, self.hangs

    def told(self) -> "Count":
        """Say on stderr that these trials are done: all together take an hour."""
        print(f"{self.name}: {self.tried} tried", file=sys.stderr, flush=True)
        return self

    def bad(self, kind: str, note: str) -> None:
        """Count a fault and keep what is known of it."""
        setattr(self, kind, getattr(self, kind) + 1)
        self.notes.append(f"{self.name}: {kind}: {note}")
        print(self.notes[-1], file=sys.stderr, flush=True)


def warm_up() -> None:
    """Import what the verbs need, before processes are forked off this one."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    import anyorder.commands.advise
    import anyorder.datasets.write.convert
    import anyorder.datasets.write.recording
    import anyorder.reports.html
    import anyorder.reports.scaling
    import anyorder.rollouts.rollout
    import anyorder.studies.collect
    import anyorder.studies.launchers
    import anyorder.studies.run
    import anyorder.studies.workers
    import anyorder.training.loop
    from tests.datasets import toy_env  # noqa: F401 - registers env=toy

    torch.set_num_threads(1)
    # A state after every step, so that studies go on from the middle of a run.
    anyorder.studies.run.run_member = functools.partial(anyorder.studies.run.run_member, save_s=0.0)


def make_verbs(folder: Path) -> list[Verb]:
    """Make the inputs in ``folder`` and return the verbs that read them."""
    folder.mkdir(parents=True)
    data, old, runs, table, study = (folder / n for n in ("data", "old", "run", "runs.csv", "study.yaml"))
    train = ("train", f"dataset.root={data}", "dataset.allow_short=true", "dataset.validation_fraction=0.3", *NETWORK)
    train = (*train, "tokenizer=dct", "steps=12", "save_freq=4", "eval_freq=4", "log_freq=1", "batch_size=8")
    train = (*train, "eval_samples=1", "device=cpu", "progress=false", "output_dir={out}")
    resume = ("resume=true",)
    verbs = [
        Verb("record", ("record", "env=toy", "episodes=3", "root={out}"), resume),
        Verb("record videos", ("record", "env=toy", "env.camera=true", "episodes=2", "root={out}"), resume),
        Verb("train", train, resume),
        Verb("convert", ("convert", f"source={old}", "root={out}")),
        Verb("rollout", ("rollout", f"policy={runs}", "episodes=2", "videos=1", "output={out}", "device=cpu")),
        Verb("fit", ("fit", f"runs={table}", "out={out}", "bootstrap=100", "law=chinchilla")),
        Verb("report", ("report", f"runs=[{runs}]", "output={out}"), out="page.html"),
        Verb("tokenize", ("tokenize", f"dataset.root={data}", "tokenizer=dct", "output={out}"), out="tokens.md"),
        Verb(
            "study",
            ("study", "run", f"study={study}", f"dataset.root={data}", "launcher=basic", "out={out}"),
            ("retry_failed=true",),
        ),
    ]
    must(["record", "env=toy", "episodes=8", f"root={data}"])
    must([word.replace("{out}", str(runs)) for word in train])
    write_old(old)
    write_table(table)
    study.write_text(STUDY)
    return verbs


def must(words: list[str]) -> None:
    """Run a command that cannot fail."""
    ended = run(words)
    if ended.status != 0:
        raise RuntimeError(f"{' '.join(words)}: {ended.status}\n{ended.error}")


def write_old(root: Path) -> None:
    """Write a dataset of version 2.1: two episodes of numbers."""
    random = np.random.default_rng(0)
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    numbers = {"timestamp": "float32"}
    numbers |= dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
    features: dict[str, Any] = {k: {"dtype": v, "shape": [1], "names": None} for k, v in numbers.items()}
    for key in ("observation.state", "action"):
        features[key] = {"dtype": "float32", "shape": [2], "names": ["a", "b"]}
    rows: dict[str, list[dict[str, Any]]] = {"episodes": [], "episodes_stats": []}
    for episode in range(2):
        values = {k: random.normal(size=(6, 2)).astype(np.float32) for k in ("observation.state", "action")}
        columns = {k: pa.array(list(v), pa.list_(pa.float32(), 2)) for k, v in values.items()}
        columns["timestamp"] = pa.array((np.arange(6) / 10).astype(np.float32))
        columns["frame_index"], columns["index"] = (pa.array(np.arange(6)), pa.array(6 * episode + np.arange(6)))
        columns["episode_index"], columns["task_index"] = (pa.array(np.full(6, episode)), pa.array(np.zeros(6, int)))
        pq.write_table(pa.table(columns), root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
        stats = {
            k: {n: getattr(v, n)(0).tolist() for n in ("min", "max", "mean", "std")} | {"count": [6]}
            for k, v in values.items()
        }
        rows["episodes"].append({"episode_index": episode, "tasks": ["Move."], "length": 6})
        rows["episodes_stats"].append({"episode_index": episode, "stats": stats})
    rows["tasks"] = [{"task_index": 0, "task": "Move."}]
    for name, lines in rows.items():
        (root / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    info = {
        "codebase_version": "v2.1",
        "robot_type": "arm",
        "total_episodes": 2,
        "total_frames": 12,
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": 10,
        "splits": {"train": "0:2"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))


def write_table(path: Path) -> None:
    """Write a table of runs of one family, drawn from a law."""
    random = np.random.default_rng(0)
    lines = ["factorization,params,tokens,unique_tokens,loss"]
    for params in (1e5, 3e5, 1e6, 3e6):
        for tokens in (1e6, 3e6, 1e7, 3e7):
            loss = 1.7 + 400 / params**0.34 + 1500 / tokens**0.36 + random.normal(0, 0.003)
            lines.append(f"ar,{params:.0f},{tokens:.0f},{tokens:.0f},{loss:.5f}")
    path.write_text("\n".join(lines) + "\n")


class Process:
    """A forked process that runs a command.

    Args:
        words: the command.
        trouble: called there first; an audit hook, or a limit.
    """

    def __init__(self, words: list[str], trouble: Callable[[], None] = lambda: None) -> None:
        self.began = time.monotonic()
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(words, write, trouble)
        os.close(write)
        os.set_blocking(self._read, False)
        self._text = b""

    def _be(self, words: list[str], write: int, trouble: Callable[[], None]) -> None:
        from anyorder import cli

        status = 70
        try:
            os.dup2(write, 2)
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, 0)
            os.dup2(nothing, 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["anyorder", *words]
            trouble()
            status = cli.main()
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(status)

    def wait(self, patience_s: float) -> Ended:
        """Wait until it ends, or end it after so many seconds."""
        began, status = time.monotonic(), None
        while True:
            with contextlib.suppress(BlockingIOError):
                self._text += os.read(self._read, 1 << 16)
            done, code = os.waitpid(self.pid, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(code)
                break
            if time.monotonic() - began > patience_s:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.005)
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self._read, 1 << 16):
                self._text += more
        os.close(self._read)
        return Ended(status, self._text.decode(errors="replace"), time.monotonic() - began)


def run(words: list[str], trouble: Callable[[], None] = lambda: None, patience_s: float = PATIENCE_S) -> Ended:
    """Run a command in a process of its own."""
    return Process(words, trouble).wait(patience_s)


def at_write(below: Path, act: Callable[[int], None]) -> None:
    """Call ``act`` with 1, 2, ... before every change of a file below a folder that Python makes in this process."""
    root, count = str(below), 0
    changes = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.symlink", "os.truncate")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            paths = (path,) if writes else ()
        else:
            paths = arguments[:2] if event in changes else ()
        if any(isinstance(path, str | os.PathLike) and os.fspath(path).startswith(root) for path in paths):
            count += 1
            act(count)

    sys.addaudithook(hook)


def writes_of(verb: Verb, folder: Path) -> int:
    """Return how many changes a verb makes, by running it."""
    read, write = os.pipe()
    ended = run(verb.command(folder), lambda: at_write(folder, lambda _: os.write(write, b".") and None))
    os.close(write)
    count = 0
    while text := os.read(read, 1 << 16):
        count += len(text)
    os.close(read)
    if ended.status != 0:
        raise RuntimeError(f"{verb.name}: {ended.status}\n{ended.error}")
    return count


def content(folder: Path) -> dict[str, str]:
    """Return what a verb made in ``folder``, by path, without what differs between two runs of it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and path.name != "SHA256SUMS" and path.suffix != ".lock":
            found[name] = hashlib.sha256(normal(path).replace(str(folder).encode(), b"")).hexdigest()
    return found


def normal(path: Path) -> bytes:
    """Return a file's content without times and digests of them."""
    if path.suffix == ".mp4" or path.name == "tokens.md":  # the latter holds codes a second
        return b""
    if path.suffix in (".json", ".jsonl"):
        texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return json.dumps([without_times(json.loads(text)) for text in texts], sort_keys=True).encode()
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """Return plain data without what differs between two runs."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def limit_files(size: int) -> None:
    """Let no file of this process grow beyond ``size`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def fresh(folder: Path) -> Path:
    """Return ``folder``, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
