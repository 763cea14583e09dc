"""Processes that end when they should: a verb by Ctrl-C or SIGTERM, and its children with it."""

import contextlib
import os
import pickle
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

GRACE_S = 3.0
"""An interrupted command has this many seconds to tidy up; then it ends as it stands."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The signal that ends a command.

    Attributes:
        signal: the first one that came; None before.
        last_words: the line that the command ends with.
    """

    def __init__(self, last_words: Callable[[], str]) -> None:
        self.signal: int | None = None
        self.last_words = last_words
        self._raised = self._told = False

    @property
    def status(self) -> int:
        """Exit status of a command that this ended: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    def tell(self) -> int:
        """End the children, print the last words once, and return the exit status."""
        kill_children()
        if not self._told:
            self._told = True
            words = f"{' '.join(self.last_words().split())}\n"
            # A progress bar may have hidden the cursor, and left its line open.
            shown = "\x1b[?25h\n" if os.isatty(2) else ""
            with contextlib.suppress(OSError):
                os.write(2, f"{shown}{words}".encode())
        return self.status

    def watch(self, wakened: int) -> None:
        """End the process when a command takes too long to end, or at the second signal."""
        deadline: float | None = None
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([wakened], [], [], left)
            came = os.read(wakened, 1) if ready else b""
            if ready and not came:
                os.close(wakened)
                return
            if ready and came[0] not in SIGNALS:
                continue
            if deadline is not None:
                os._exit(self.tell())
            self.signal, deadline = came[0], time.monotonic() + GRACE_S

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise in the main thread, once: the second time the process ends, see ``watch``."""
        if not self._raised:
            self._raised = True
            self.signal = number
            raise KeyboardInterrupt


@contextmanager
def interruptible(last_words: Callable[[], str], final: bool) -> Iterator[Interruption]:
    """Let Ctrl-C and SIGTERM end what the block does within seconds, wherever it is: see ``Interruption``.

    A signal that the process was told to ignore, as ``nohup`` and ``&`` do, stays ignored. Elsewhere than in the main
    thread nothing changes.

    Args:
        last_words: called when a signal came; must not import, as that may be what was interrupted.
        final: after a signal the process ends with the block.
    """
    interruption = Interruption(last_words)
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    wakened, waker = os.pipe()
    os.set_blocking(waker, False)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    fd_before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    threading.Thread(target=interruption.watch, args=(wakened,), name="signals", daemon=True).start()
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interruption.handle)
    try:
        yield interruption
    finally:
        if interruption.signal is not None and final:
            # What a library does when Python ends may take seconds.
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(interruption.tell())
        else:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
            os.close(waker)


def kill_children() -> None:
    """End the processes that this one has started and that still run."""
    if threading.current_thread() is threading.main_thread():
        # torch raises in this handler when a worker of a DataLoader is killed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Where it was not imported, there are none.
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            child.kill()


def end_with_parent() -> None:
    """Let this process end at once when the one that started it is gone, however that ended.

    For the first line of what ``multiprocessing`` runs in a process; elsewhere it does nothing.
    """
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    sentinel: Any = parent.sentinel

    def watch() -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def ctrl_c_is_ours() -> Iterator[None]:
    """Keep Ctrl-C from the processes that the block starts: a terminal sends it to all, and it is the parent's."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


class Child:
    """A fresh process that ends with this one; messages go through ``pipe``.

    Args:
        target: called there with its end of the pipe and ``arguments``. A pipe that breaks ends it.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        # As bytes, so that the imports they need come after the watch for the parent.
        work = pickle.dumps((target, arguments))
        self.process = context.Process(target=_enter, args=(end, work), daemon=True)
        with ctrl_c_is_ours():
            self.process.start()
        end.close()

    def stop(self) -> None:
        """End it at once; what it was doing continues another time."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _enter(pipe: "Connection", work: bytes) -> None:
    end_with_parent()
    target, arguments = pickle.loads(work)
    with contextlib.suppress(EOFError, ConnectionError):
        target(pipe, *arguments)
