import numpy as np
import pytest
import torch

from anyorder.datasets import ActionChunks, Statistics, compute_statistics
from anyorder.datasets.read.episodes import EpisodeChoice
from anyorder.errors import DatasetError


def test_they_are_exact(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4, choice=EpisodeChoice(5))
    found = compute_statistics(chunks, quantiles=(0.01, 0.37, 0.99))
    assert set(found) == {"observation.state", "observation.environment_state", "action"}
    values = chunks.columns["action"].numpy().astype(np.float64)
    statistics = found["action"]
    assert statistics.count == len(values) == chunks.frames
    np.testing.assert_array_equal(statistics.mean, values.mean(axis=0))
    np.testing.assert_array_equal(statistics.std, np.sqrt(((values - values.mean(axis=0)) ** 2).mean(axis=0)))
    np.testing.assert_array_equal(statistics.min, values.min(axis=0))
    np.testing.assert_array_equal(statistics.max, values.max(axis=0))
    for quantile in (0.01, 0.37, 0.99):
        np.testing.assert_array_equal(statistics.quantiles[quantile], np.quantile(values, quantile, axis=0))
    np.testing.assert_array_equal(statistics.q01, statistics.quantiles[0.01])


def test_large_values_keep_their_small_spread():
    values = (1e4 + np.linspace(0, 0.01, 1000, dtype=np.float64))[:, None].astype(np.float32)
    exact = values.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(Statistics.of(values).std, exact, rtol=1e-12)


def test_only_the_frames_held_count(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    one = chunks.subset([6])
    assert compute_statistics(one)["action"].count == int(chunks.lengths[6])
    assert not np.array_equal(compute_statistics(one)["action"].mean, compute_statistics(chunks)["action"].mean)


def test_a_constant_dimension_is_no_problem():
    statistics = Statistics.of(np.array([[1.0, 5.0], [2.0, 5.0]]))
    assert statistics.constant.tolist() == [False, True]
    assert statistics.std[1] == 0


def test_they_have_lerobots_names(toy_root):
    statistics = compute_statistics(ActionChunks.load(toy_root, horizon=4))["action"]
    named = statistics.as_lerobot()
    assert set(named) == {"mean", "std", "min", "max", "count", "q01", "q99"}
    for name in ("mean", "std", "min", "max", "q01", "q99"):
        np.testing.assert_array_equal(named[name], getattr(statistics, name))


def test_lerobots_own_quantiles_lie_inside_the_data(tmp_path):
    """The reason for this module: on random walks LeRobot 0.6.1 leaves a quarter of the values out of its range."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    names = ["x"]
    features = {key: {"dtype": "float32", "shape": (2,), "names": names * 2} for key in ("observation.state", "action")}
    dataset = LeRobotDataset.create(
        "local/walk", 20, features, root=tmp_path / "walk", use_videos=False, video_backend="pyav"
    )
    random = np.random.default_rng(0)
    with SuppressProgressBars():
        for _ in range(15):
            for values in random.normal(size=(100, 2)).cumsum(axis=0).astype(np.float32):
                dataset.add_frame({"observation.state": values, "action": values, "task": "Walk."})
            dataset.save_episode()
        dataset.finalize()
    chunks = ActionChunks.load(tmp_path / "walk", horizon=4)
    ours = compute_statistics(chunks)["action"]
    theirs = dataset.meta.stats["action"]
    np.testing.assert_allclose(theirs["mean"], ours.mean, rtol=1e-4)
    np.testing.assert_allclose(theirs["std"], ours.std, rtol=1e-4)
    values = chunks.columns["action"].numpy()

    def outside(low, high):
        return float(np.mean((values < low) | (values > high)))

    assert outside(ours.q01, ours.q99) == pytest.approx(0.02, abs=0.002)
    assert outside(theirs["q01"], theirs["q99"]) > 0.1


def test_bad_requests():
    with pytest.raises(DatasetError, match=r"quantile: 1\.5 given"):
        Statistics.of(torch.zeros(3, 1).numpy(), quantiles=[1.5])
    with pytest.raises(DatasetError, match="frames: 0 given"):
        Statistics.of(np.zeros((0, 1)))
