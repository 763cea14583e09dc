import json

import numpy as np
import pytest
import torch

from anyorder.datasets import ActionChunks
from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.networks import TransformerConfig
from anyorder.settings import from_plain
from anyorder.training.batches import StepBatches, batches_of
from anyorder.training.config import DatasetConfig, MixEntry, TrainConfig
from anyorder.training.loop import train
from anyorder.training.metrics import read_metrics
from anyorder.training.order import BatchOrder, MixtureOrder
from anyorder.training.run_folder import last_checkpoint

CAMERA = "observation.images.top"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def film_root(tmp_path_factory):
    """Four episodes with one camera."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("film") / "film"
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        CAMERA: {"dtype": "video", "shape": (32, 32, 3), "names": ["height", "width", "channels"]},
    }
    dataset = LeRobotDataset.create("local/film", 20, features, root=root, video_backend="pyav")
    with SuppressProgressBars():
        for length in (9, 7, 8, 12):
            for _ in range(length):
                frame = {CAMERA: random.integers(0, 256, (32, 32, 3), dtype=np.uint8), "task": "Look."}
                for key, size in (("observation.state", 3), ("action", 2)):
                    frame[key] = random.normal(size=size).astype(np.float32)
                dataset.add_frame(frame)
            dataset.save_episode(parallel_encoding=False)
        dataset.finalize()
    return root


def collect(chunks, order, start, stop, workers, part=slice(None)):
    with batches_of(StepBatches(chunks, order, part), start, stop, workers, CPU) as batches:
        found = [next(batches) for _ in range(start, stop)]
        with pytest.raises(StopIteration):
            next(batches)
        assert batches.take_waited_s() > 0
        assert batches.take_waited_s() == 0
    return found


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert set(one) == set(other)
        for key, values in one.items():
            same = values == other[key] if key == "task" else torch.equal(values, other[key])
            assert same, key


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_decoded_ahead_is_the_same_as_from_memory(film_root, workers):
    cached = ActionChunks.load(film_root, horizon=2, history=2, images=True)
    cached.cache()
    live = ActionChunks.load(film_root, horizon=2, history=2, images=True)
    order = BatchOrder(cached.frames, 8, seed=1)
    expected = collect(cached, order, 0, 12, 0)
    assert expected[0][CAMERA].dtype == torch.uint8
    if not workers:  # a process takes seconds to start
        assert_same(collect(live, BatchOrder(cached.frames, 8, seed=1), 0, 12, workers), expected)
    # A run that begins in the middle sees what an undisturbed one sees from there on.
    assert_same(collect(live, BatchOrder(cached.frames, 8, seed=1), 7, 12, workers), expected[7:])


def test_processes_share_a_batch(film_root):
    chunks = ActionChunks.load(film_root, horizon=2, images=True)
    order = MixtureOrder(torch.arange(chunks.frames) // 20, [1, 2], 8, seed=1)
    whole, first, second = (collect(chunks, order, 0, 3, 0, part) for part in (slice(None), slice(0, 4), slice(4, 8)))
    for one, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(one[CAMERA], torch.cat([a[CAMERA], b[CAMERA]]))


def test_leaving_early_stops_the_decoding(film_root):
    live = ActionChunks.load(film_root, horizon=2, images=True)
    source = StepBatches(live, BatchOrder(live.frames, 8, 0), slice(None))
    with batches_of(source, 0, 10**9, 0, CPU) as batches:
        next(batches)


def config(root, run, **dataset):
    mix = [MixEntry(str(root), weight=1.0), MixEntry(str(root), weight=2.0)]
    return TrainConfig(
        output_dir=str(run),
        dataset=DatasetConfig(mix=mix, **dataset),
        factorization=FactorizationConfig.named("regression"),
        network=TransformerConfig(16, 1, 2),
        chunk_size=2,
        n_action_steps=2,
        steps=8,
        save_freq=4,
        log_freq=2,
        batch_size=8,
        device="cpu",
        progress=False,
    )


def test_a_mixture_trains_and_resumes_to_the_same_weights(film_root, tmp_path, monkeypatch):
    whole = train(config(film_root, tmp_path / "whole"))

    def die(self, done, loss):
        if done == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anyorder.training.progress.TrainingProgress.step", die)
        with pytest.raises(KeyboardInterrupt):
            train(config(film_root, tmp_path / "broken"))
    assert last_checkpoint(tmp_path / "broken").name == "000004"
    settings = config(film_root, tmp_path / "broken")
    settings.resume = True
    resumed = train(settings)
    for name, values in whole.policy.state_dict().items():
        assert torch.equal(values, resumed.policy.state_dict()[name]), name
    saved = json.loads((tmp_path / "whole" / "train_config.json").read_text())
    assert [entry["weight"] for entry in saved["dataset"]["mix"]] == [1.0, 2.0]


def test_metrics_say_how_long_a_step_takes_and_waits(film_root, tmp_path):
    train(config(film_root, tmp_path / "run"))
    lines = [line for line in read_metrics(tmp_path / "run") if "train_loss" in line]
    assert len(lines) == 4
    assert all(0 < line["data_s"] < line["step_s"] for line in lines)


def test_workers_are_checked():
    with pytest.raises(ConfigError, match=r"^dataset.workers: -1 given"):
        from_plain(DatasetConfig, {"root": "x", "workers": -1}, "dataset")
