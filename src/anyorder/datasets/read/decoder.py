"""Video frames decoded in a process of its own, so that a file that crashes the decoder is one line, not the end.

That process (``main``) reads requests, one JSON object a line, from its input and writes the frames of each to its
output. It ends with the process that has started it.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO

import torch
from torch import Tensor

from anyorder.datasets.quiet import VIDEO_BACKEND, quiet

START_S, REQUEST_S, FRAME_S = 180.0, 60.0, 1.0
"""The process counts as hung when it takes more seconds than these to start, or for a request and each frame of it."""


class DecoderError(Exception):
    """Frames that cannot be decoded; the message says why in few words."""


class RefusalError(DecoderError):
    """The decoder has said no by itself, and goes on."""


class Decoder:
    """Decodes in another process, which is started when it is needed and again when it has died. Threads take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def frames(self, path: Path, times: Sequence[float], tolerance_s: float, backend: str) -> Tensor:
        """Return what LeRobot's ``decode_video_frames`` gives, uint8 (frames, channels, height, width).

        Raises:
            DecoderError: the decoder refuses the file, dies of it, or gives no answer.
        """
        request = {"path": str(path), "times": list(times), "tolerance_s": tolerance_s, "backend": backend}
        with self._lock:
            try:
                return self._ask(request, REQUEST_S + FRAME_S * len(times))
            except RefusalError:
                raise
            except BaseException:
                # What is half read would be taken for the next answer.
                self.stop()
                raise

    def stop(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, request: dict[str, Any], patience_s: float) -> Tensor:
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise DecoderError(died(process)) from None
        deadline = time.monotonic() + patience_s
        answer = json.loads(self._line(process, deadline))
        if "error" in answer:
            raise RefusalError(answer["error"])
        frames = torch.empty(answer["shape"], dtype=torch.uint8)
        self._fill(process, memoryview(frames.numpy()).cast("B"), deadline)
        return frames

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._owner != os.getpid():
            # Not `daemonic`, as multiprocessing's children are not allowed: workers of a loader decode, too.
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
            self._owner = os.getpid()
            atexit.register(self.stop)
            self._line(self._process, time.monotonic() + START_S)
        return self._process

    def _line(self, process: "subprocess.Popen[bytes]", deadline: float) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            one = bytearray(1)
            self._fill(process, memoryview(one), deadline)
            line += one
        return bytes(line)

    def _fill(self, process: "subprocess.Popen[bytes]", space: memoryview, deadline: float) -> None:
        assert process.stdout is not None
        while space:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([process.stdout], [], [], left)[0]:
                raise DecoderError("the decoder gives no answer")
            count = os.readv(process.stdout.fileno(), [space])
            if count == 0:
                raise DecoderError(died(process))
            space = space[count:]


def died(process: "subprocess.Popen[bytes]") -> str:
    """Return how a process has ended, in words."""
    status = process.wait()
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"the decoder died: {signal.Signals(-status).name}"
    return f"the decoder died, exit status {status}"


DECODER = Decoder()
"""The decoder that all readers of this process share."""


def decode_here(path: Path, times: Sequence[float], tolerance_s: float, backend: str) -> Tensor:
    """Return what ``Decoder.frames`` does, decoded in this process.

    Raises:
        DecoderError: LeRobot's decoder refuses the file.
    """
    import av
    from lerobot.datasets.video_utils import decode_video_frames

    try:
        return decode_video_frames(path, list(times), tolerance_s, backend, return_uint8=True)
    except (av.FFmpegError, OSError, ValueError, RuntimeError, IndexError, MemoryError) as error:
        # FFmpeg's errors have the reason by itself.
        raise RefusalError(str(getattr(error, "strerror", None) or error or type(error).__name__)) from error


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more, or the one who asks is gone."""
    import lerobot.datasets.video_utils  # noqa: F401  (slow; to be ready means to have it)

    waiting: SimpleQueue[bytes] = SimpleQueue()

    def listen() -> None:
        for line in requests:
            waiting.put(line)
        os._exit(0)  # even in the middle of a frame

    def answer(*parts: bytes | memoryview) -> None:
        for part in parts:
            answers.write(part)
        answers.flush()

    threading.Thread(target=listen, daemon=True).start()
    answer(b"ready\n")
    while True:
        request = json.loads(waiting.get())
        try:
            frames = decode_here(Path(request.pop("path")), **request)
        except DecoderError as error:
            answer(json.dumps({"error": str(error)}).encode() + b"\n")
            continue
        shape = json.dumps({"shape": list(frames.shape)}).encode() + b"\n"
        answer(shape, memoryview(frames.contiguous().numpy()).cast("B"))


def main() -> None:
    """Serve on standard input and output; what libraries print goes elsewhere."""
    # Ctrl-C is the parent's to handle; this process ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    with quiet(VIDEO_BACKEND):
        serve(sys.stdin.buffer, answers)
