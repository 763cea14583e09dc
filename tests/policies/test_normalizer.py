import numpy as np
import pytest
import torch
from lerobot.configs import NormalizationMode

from anyorder.datasets.read.statistics import Statistics
from anyorder.errors import ConfigError
from anyorder.policies.normalizer import Normalizer

RANGES = [NormalizationMode.MIN_MAX, NormalizationMode.QUANTILES]


def statistics(values):
    return Statistics.of(values).as_lerobot()


@pytest.fixture
def values():
    drawn = np.random.default_rng(0).normal(size=(500, 3)) * [1, 100, 1]
    drawn[:, 2] = 7.0  # never changes
    return drawn


@pytest.mark.parametrize("mode", RANGES)
def test_ranges_clip_to_one_and_come_back(values, mode):
    normalizer = Normalizer(3).fit(statistics(values), mode)
    y = normalizer(torch.tensor(values))
    assert y.abs().max() <= 1.0
    inside = (y.abs() < 1).all(1)
    assert inside.float().mean() > 0.9
    back = normalizer.inverse(y)
    torch.testing.assert_close(back[inside], torch.tensor(values)[inside], rtol=1e-5, atol=1e-4)


def test_min_max_keeps_every_value(values):
    normalizer = Normalizer(3).fit(statistics(values), NormalizationMode.MIN_MAX)
    back = normalizer.inverse(normalizer(torch.tensor(values)))
    torch.testing.assert_close(back, torch.tensor(values), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("mode", [*RANGES, NormalizationMode.MEAN_STD])
def test_constant_dimensions_stay_harmless(values, mode):
    normalizer = Normalizer(3).fit(statistics(values), mode)
    off = torch.tensor([[0.0, 0.0, 7.001]])
    assert normalizer(off)[0, 2] == 0.0
    assert normalizer.inverse(torch.ones(1, 3))[0, 2] == 7.0


def test_mean_std_is_exact_and_clips_far_outliers(values):
    normalizer = Normalizer(3).fit(statistics(values), NormalizationMode.MEAN_STD)
    y = normalizer(torch.tensor(values))[:, :2]
    torch.testing.assert_close(y.mean(0), torch.zeros(2).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.ones(2).double(), atol=1e-5, rtol=0)
    assert normalizer(torch.tensor([[1e6, 0.0, 7.0]])).abs().max() == 10.0


def test_unknown_mode_is_refused(values):
    with pytest.raises(ConfigError, match="normalization_mapping"):
        Normalizer(3).fit(statistics(values), NormalizationMode.QUANTILE10)
