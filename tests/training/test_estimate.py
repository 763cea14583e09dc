"""Long decoding is told before it begins, with a setting that mends it."""

import re

import pytest

from anyorder.datasets.read.cameras import GIB, Cameras
from anyorder.datasets.read.chunks import ActionChunks
from anyorder.training import estimate
from anyorder.training.batches import StepBatches
from anyorder.training.config import DatasetConfig, TrainConfig
from anyorder.training.estimate import Decoding, describe, fitting_size, foretell
from anyorder.training.loop import train
from anyorder.training.order import BatchOrder
from tests.training.test_training import config as small

CAMERA = "observation.images.top"


def source(root, cache_gb=0, batch_size=8):
    chunks = ActionChunks.load(root, horizon=6, images=True)
    chunks.cache(cache_gb)
    return chunks, StepBatches(chunks, BatchOrder(chunks.frames, batch_size, 0), slice(None))


def run_of(root, **dataset):
    return TrainConfig(
        dataset=DatasetConfig(root=str(root), **dataset), steps=1000, batch_size=8, eval_freq=500, eval_chunks=4
    )


def test_the_time_is_that_of_all_chunks_and_validations(pictures_root, monkeypatch):
    chunks, batches = source(pictures_root)
    monkeypatch.setattr(estimate, "measure", lambda *_: Decoding(0.1, 0.02))
    line = foretell(batches, 0, chunks, run_of(pictures_root, cache_gb=0.0))
    assert "about 13 min for this run" in line  # (1000 * 8 + 2 * 4) * 0.1 s
    assert "about 7 min" in foretell(batches, 0, chunks, run_of(pictures_root, cache_gb=0.0, workers=2))
    assert "about 7 min" in foretell(batches, 500, chunks, run_of(pictures_root, cache_gb=0.0))
    monkeypatch.setattr(estimate, "measure", lambda *_: Decoding(0.001, 0.001))
    assert foretell(batches, 0, chunks, run_of(pictures_root, cache_gb=0.0)) is None


def test_frames_in_memory_need_no_word(pictures_root):
    chunks, batches = source(pictures_root, cache_gb=1)
    assert foretell(batches, 0, chunks, run_of(pictures_root)) is None


def test_decoding_is_timed(pictures_root, monkeypatch):
    chunks, batches = source(pictures_root)
    reader, read = chunks.cameras.readers[0], chunks.cameras.readers[0].read
    seconds = {"now": 0.0}
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: seconds["now"])

    def slow(key, rows):
        seconds["now"] += 0.25 + 0.01 * len(rows)
        return read(key, rows)

    monkeypatch.setattr(reader, "read", slow)
    cost = estimate.measure(batches, 0)
    assert cost.chunk_s == pytest.approx(0.26)
    assert cost.frame_s == pytest.approx(0.01 + 0.25 / len(reader), rel=0.1)


def cameras(frames, **shapes):
    class Rows:
        keys = tuple(shapes)

        def __len__(self):
            return frames

    return Cameras([Rows()], shapes)


@pytest.mark.parametrize("free", [8.0, 2.0, 0.5])
@pytest.mark.parametrize("cache_gb", [None, 0.0])
def test_the_setting_that_is_named_lets_frames_fit(free, cache_gb, monkeypatch):
    monkeypatch.setattr("anyorder.datasets.read.cameras.free_memory", lambda: int(free * GIB))
    films = cameras(3_206, front=(3, 480, 640), wrist=(3, 480, 640))
    line = describe(films, 9e4, 0.01, cache_gb, free * GIB)
    assert "camera frames take 5.5 GiB and do not fit" in line
    assert "about 25.0 h for this run" in line
    if named := re.search(r"dataset\.cache_gb=([\d.]+)", line):
        assert films.bytes <= float(named[1]) * GIB <= 0.9 * free * GIB
    else:
        size = [int(n) for n in re.search(r"dataset\.image_size=\[(\d+),(\d+)\]", line).groups()]
        assert 3_206 * 6 * size[0] * size[1] <= free * GIB / 2
        assert ("dataset.cache_gb=null" in line) == (cache_gb is not None)
    assert fitting_size(films, 1000.0) is None


def test_a_run_says_it_before_its_first_step(pictures_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("anyorder.training.loop.foretell", lambda *_: "it takes hours")
    run = small(pictures_root, tmp_path / "run", steps=1, batch_size=4)
    run.progress = True
    run.dataset.observations = ["observation.state", CAMERA]
    train(run)
    assert "it takes hours" in capsys.readouterr().out
