"""A video that crashes, hangs or confuses the decoder is one line; the process that asks goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from anyorder.datasets.read import decoder as module
from anyorder.datasets.read.decoder import Decoder, DecoderError, decode_here
from anyorder.datasets.read.images import TOLERANCE_S

TIMES = [0.0, 0.1, 0.5]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    import av
    import numpy as np

    path = tmp_path_factory.mktemp("video") / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(10):
            picture = np.full((48, 64, 3), 20 * level, dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def decoder():
    made = Decoder()
    yield made
    made.stop()


def ask(decoder, path, times=TIMES):
    return decoder.frames(path, times, TOLERANCE_S, "pyav")


def test_frames_are_those_that_lerobot_decodes(decoder, video):
    found = ask(decoder, video)
    assert found.shape == (3, 3, 48, 64)
    assert torch.equal(found, decode_here(video, TIMES, TOLERANCE_S, "pyav"))


def test_a_refusal_is_told_and_the_process_goes_on(decoder, video, tmp_path):
    ask(decoder, video)
    process = decoder._process.pid
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes()[:300])
    with pytest.raises(DecoderError, match="Invalid data"):
        ask(decoder, bad)
    with pytest.raises(DecoderError, match="tolerance"):
        ask(decoder, video, [0.05])
    assert decoder._process.pid == process
    assert len(ask(decoder, video)) == 3


def test_a_crash_and_a_hang_are_told_and_another_process_goes_on(decoder, video, monkeypatch):
    ask(decoder, video)
    decoder._process.send_signal(signal.SIGSEGV)
    decoder._process.wait()
    with pytest.raises(DecoderError, match="the decoder died: SIGSEGV"):
        ask(decoder, video)
    assert len(ask(decoder, video)) == 3
    monkeypatch.setattr(module, "REQUEST_S", -2.9)
    decoder._process.send_signal(signal.SIGSTOP)
    with pytest.raises(DecoderError, match="the decoder gives no answer"):
        ask(decoder, video)
    assert decoder._process is None


ALONE = """
import sys
from pathlib import Path
from anyorder.datasets.read.decoder import DECODER
DECODER.frames(Path(sys.argv[1]), [0.0], 1e-4, "pyav")
print(DECODER._process.pid, flush=True)
sys.stdin.read()
"""


def test_the_process_ends_with_its_parent(video):
    words = [sys.executable, "-c", ALONE, str(video)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_only_videos_that_are_not_what_was_recorded_need_the_other_process(tmp_path, monkeypatch):
    from anyorder.datasets.read import images
    from anyorder.datasets.read.chunks import ActionChunks
    from anyorder.datasets.write.recording import record
    from anyorder.errors import DatasetError
    from anyorder.sums import SUMS
    from tests.datasets.toy_env import ToyConfig

    root = tmp_path / "dataset"
    record(ToyConfig(camera=True, shortest=10, longest=12), root, episodes=1)
    asked = []

    class Spy:
        def frames(self, path, *rest):
            asked.append(path)
            return decode_here(path, *rest)

    monkeypatch.setattr(images, "DECODER", Spy())

    def load():
        return ActionChunks.load(root, horizon=4, images=True).batch([3])["observation.images.top"]

    recorded = load()
    assert asked == []
    (path,) = (root / "videos").rglob("*.mp4")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DatasetError, match=r"mp4: changed since .*delete that list"):
        load()
    path.write_bytes(good)
    (root / SUMS).unlink()
    assert torch.equal(load(), recorded)
    assert set(asked) == {Path(path)}
