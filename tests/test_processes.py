"""Commands end by Ctrl-C and SIGTERM wherever they are, in one line, and no child outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anyorder import cli, processes
from anyorder.errors import UserError, no_room, system_failure

ROOT = Path(__file__).parents[1]
COMMAND = """
import ctypes, signal, sys, time
from anyorder import cli, processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
processes.GRACE_S = 0.5
def deaf():
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
def import_that_fails():
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise ImportError("numpy.core failed to import")
def outside_python():
    mutex = ctypes.create_string_buffer(64)
    ctypes.CDLL(None).pthread_mutex_init(mutex, None)
    for _ in range(2):  # a mutex that its own thread holds: no signal ends the wait
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
def threads():
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 60).result()
def children():
    from tests.sleeper import sleep
    child = processes.Child(sleep)
    print(child.pipe.recv(), flush=True)
    time.sleep(60)
def run(command):
    print("begun", flush=True)
    globals()[command.words[0]]()
cli.Command.run = run
sys.exit(cli.main())
"""


def begin(what):
    command = [sys.executable, "-c", COMMAND, "train", what]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, env=environment, cwd=ROOT, **pipes)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.1)
    return process


@pytest.mark.parametrize(
    ("what", "number", "times"),
    [
        ("deaf", signal.SIGINT, 1),
        ("deaf", signal.SIGTERM, 2),
        ("import_that_fails", signal.SIGINT, 1),
        ("outside_python", signal.SIGINT, 1),
        ("threads", signal.SIGTERM, 1),
    ],
)
def test_a_signal_ends_a_command_in_one_line(what, number, times):
    process = begin(what)
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    _, error = process.communicate(timeout=10)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + number
    assert error == "anyorder train: interrupted; the same command begins again\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(number):
    process = begin("children")
    child = int(process.stdout.readline())
    process.send_signal(number)
    process.communicate(timeout=10)
    deadline = time.monotonic() + 5
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(child)


def running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with processes.interruptible(lambda: "", final=False) as interruption:
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def safetensors_error(folder):
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(9)}, folder / "missing" / "x.safetensors")


def arrow_error(folder):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"x": [1]}), folder / "missing" / "x.parquet")


def av_error(folder):
    import av

    with av.open(str(folder / "missing" / "x.mp4"), "w") as container:
        container.add_stream("libx264", 10)
        container.start_encoding()


def caused(folder):
    try:
        (folder / "missing" / "x").write_text("x")
    except OSError as error:
        raise RuntimeError("what the library says") from error


@pytest.mark.parametrize("write", [safetensors_error, arrow_error, av_error, caused])
def test_what_the_system_refuses_is_known_in_every_library(write, tmp_path):
    with pytest.raises(Exception) as found:  # noqa: PT011 - of any type
        write(tmp_path)
    line = system_failure(found.value)
    assert line is not None
    assert "\n" not in line
    assert system_failure(ValueError("x")) is None
    assert system_failure(UserError("x")) is None


def test_torch_tells_a_full_disk_in_words_of_its_own():
    error = RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed writing file")
    assert "is the disk full?" in system_failure(error)
    assert no_room(error)
    assert not no_room(FileNotFoundError(2, "No such file"))
    assert system_failure(RuntimeError("shapes cannot be multiplied")) is None


def test_a_fault_of_ours_stays_a_traceback_and_the_systems_can_be_shown(monkeypatch, capsys):
    def fail(error):
        def run(command):
            raise error

        monkeypatch.setattr(cli.Command, "run", run)

    fail(KeyError("x"))
    with pytest.raises(KeyError):
        cli.main(["train"])
    fail(OSError(28, "No space left on device"))
    assert cli.main(["train"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("anyorder train: No space left on device; once that is mended, the same command")
    assert line.count("\n") == 1
    monkeypatch.setenv("ANYORDER_TRACEBACK", "1")
    assert cli.main(["train"]) == 2
    assert "Traceback" in capsys.readouterr().err
