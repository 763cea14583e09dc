"""The opt-in hooks: the same items, faster, and a resumed run that sees the data in the right order."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from lerobot.datasets import EpisodeAwareSampler, LeRobotDataset, compute_sampler_state
from torch.utils.data import DataLoader

from anyorder.datasets.write.recording import record
from anyorder.errors import ConfigError
from anyorder.plugin import fast_loading
from tests.datasets.toy_env import ToyConfig

FPS, BATCH = 20, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve episodes of different lengths in one task."""
    root = tmp_path_factory.mktemp("toy") / "dataset"
    record(ToyConfig(), root, episodes=12)
    return root


@pytest.fixture
def installed(monkeypatch):
    """Install the hooks for one test."""
    monkeypatch.setattr(LeRobotDataset, "__getitems__", None, raising=False)
    for name in ("load_state_dict", "set_epoch", "_iter_epoch"):
        monkeypatch.setattr(EpisodeAwareSampler, name, getattr(EpisodeAwareSampler, name))
    fast_loading.install()


def dataset(folder, windows=None, **settings):
    windows = {key: [step / FPS for step in steps] for key, steps in (windows or {}).items()}
    return LeRobotDataset("local/toy", root=folder, delta_timestamps=windows or None, **settings)


def equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype, key
            assert torch.equal(value, other[key]), key
        else:
            assert value == other[key], key


HISTORY = {"observation.state": [-3, -1, 0], "observation.environment_state": [-3, -1, 0]}


@pytest.mark.parametrize(
    "windows", [{}, {"action": range(16)}, {"action": range(-2, 60), **HISTORY}, {"timestamp": [-1, 0, 1]}]
)
@pytest.mark.parametrize("episodes", [None, [1, 4, 5, 11]])
def test_items_equal_lerobots(folder, windows, episodes):
    slow = dataset(folder, windows, episodes=episodes)
    indices = [*np.random.default_rng(0).permutation(len(slow))[:40].tolist(), 0, len(slow) - 1]
    for fast, index in zip(fast_loading.items(slow, indices), indices, strict=True):
        equal(fast, slow[index])


def test_a_stock_loader_gives_the_same_batches_from_memory(folder, installed, monkeypatch):
    loader = DataLoader(dataset(folder, {"action": range(16)}), batch_size=BATCH)
    with monkeypatch.context() as patch:
        patch.setattr(LeRobotDataset, "__getitem__", lambda *_: pytest.fail("asked for a single frame"))
        fast = list(loader)
    monkeypatch.setattr(LeRobotDataset, "__getitems__", None)
    slow = list(loader)
    assert len(fast) == len(slow)
    for one, other in zip(fast, slow, strict=True):
        equal(one, other)


def test_cameras_are_left_to_lerobot(tmp_path):
    record(ToyConfig(camera=True), tmp_path / "dataset", episodes=2)
    slow = dataset(tmp_path / "dataset", {"action": range(4)})
    assert fast_loading.Columns.of(slow) is None
    for fast, index in zip(fast_loading.items(slow, [3, 0]), [3, 0], strict=True):
        equal(fast, slow[index])


class Frames(torch.utils.data.Dataset):
    """Gives the frame's own number."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index


def order(batches, resumed_at=0):
    """Return which frames ``lerobot-train`` sees from a step on: its sampler, under accelerate's loader."""
    return [seen for seen, _, _ in steps(batches, resumed_at)]


def steps(batches, resumed_at=0, generator=None):
    """Return the frames of each step, a random number it draws, and torch's generator after it."""
    frames = Frames(50)
    sampler = EpisodeAwareSampler([0, 20], [20, 50], shuffle=True, seed=7)
    if resumed_at:
        if generator is not None:
            torch.set_rng_state(generator)
        sampler.load_state_dict(compute_sampler_state(resumed_at, len(sampler), BATCH, 1))
    loader = Accelerator(cpu=True, step_scheduler_with_optimizer=False).prepare(
        DataLoader(frames, batch_size=BATCH, sampler=sampler)
    )
    seen = []
    while len(seen) < batches:
        seen += [(batch.tolist(), torch.rand(()).item(), torch.get_rng_state()) for batch in loader]
    return seen[:batches]


PER_EPOCH = 7  # batches of 8 in 50 frames


@pytest.mark.parametrize("step", [3, PER_EPOCH, 2 * PER_EPOCH + 4])
def test_a_resumed_run_sees_what_an_undisturbed_one_does(installed, step):
    whole = order(5 * PER_EPOCH)
    assert order(5 * PER_EPOCH - step, resumed_at=step) == whole[step:]


@pytest.mark.parametrize("step", [3, PER_EPOCH, 2 * PER_EPOCH + 4])
def test_a_resumed_run_draws_what_an_undisturbed_one_does(installed, step):
    # Masked diffusion draws its masks, so a loader that draws one number more changes every step that follows.
    whole = steps(4 * PER_EPOCH)
    resumed = steps(4 * PER_EPOCH - step, resumed_at=step, generator=whole[step - 1][2])
    assert [(frames, drawn) for frames, drawn, _ in resumed] == [(frames, drawn) for frames, drawn, _ in whole[step:]]


def test_without_the_repair_a_resumed_run_replays_the_first_epoch():
    # LeRobot's pull request 4692. When this fails it is repaired upstream, and ours can go.
    step = 2 * PER_EPOCH
    assert order(PER_EPOCH, resumed_at=step) == order(PER_EPOCH)
    assert order(PER_EPOCH, resumed_at=step) != order(3 * PER_EPOCH)[step:]


def test_the_switch(monkeypatch):
    calls = []
    monkeypatch.setattr(fast_loading, "install", lambda: calls.append(1))
    for value in ("", "0"):
        fast_loading.install_if_asked({fast_loading.SWITCH: value})
    fast_loading.install_if_asked({})
    assert calls == []
    fast_loading.install_if_asked({fast_loading.SWITCH: "1"})
    assert calls == [1]
    with pytest.raises(ConfigError, match="ANYORDER_FAST_LOADING: 'yes' given, allowed: 0 or 1"):
        fast_loading.install_if_asked({fast_loading.SWITCH: "yes"})
