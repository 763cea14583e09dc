import pytest
import torch
from scipy import stats

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization.categorical import draw, inverse_cdf, probabilities, uniforms
from anyorder.factorization.guidance import Guided


def test_inverse_cdf_follows_the_weights():
    weights = torch.tensor([0.5, 0.0, 0.3, 0.2]).double()
    noise = uniforms((20_000,), torch.Generator().manual_seed(0))
    counts = torch.bincount(inverse_cdf(weights.expand(20_000, 4), noise), minlength=4)
    assert counts[1] == 0
    assert stats.chisquare(counts[[0, 2, 3]].numpy(), [10_000, 6_000, 4_000]).pvalue > 1e-4


def test_rare_tokens_keep_their_probability():
    # Float32 Gumbel noise would draw a token of probability 1e-8 with 0.015 of its chance (arXiv 2409.02908).
    weights = torch.tensor([1 - 1e-8, 1e-8], dtype=torch.float64)
    below, above = torch.tensor([1 - 2e-8, 1 - 5e-9], dtype=torch.float64)
    assert inverse_cdf(weights, below) == 0
    assert inverse_cdf(weights, above) == 1


def test_threshold_on_the_total_never_leaves_the_support():
    weights = torch.tensor([0.3, 0.7, 0.0], dtype=torch.float64)
    assert inverse_cdf(weights, torch.tensor(1.0, dtype=torch.float64)) == 1


def test_temperature_sharpens_and_zero_takes_the_best():
    logits = torch.tensor([0.0, 1.0, 2.0])
    assert probabilities(logits, 0.5)[2] > probabilities(logits, 1.0)[2] > probabilities(logits, 2.0)[2]
    assert probabilities(logits, 0.0).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 0.7, 1.0, 1e300])
@pytest.mark.parametrize("nucleus", [1e-6, 0.5, 1.0])
def test_what_is_not_finite_is_never_drawn(temperature, nucleus):
    low = float("-inf")
    good = torch.tensor([[0.0, low, 2.0], [low, low, -1e30], [3e38, -3e38, 0.0], [1.0, 1.0, 1.0]])
    noise = torch.rand(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = draw(good, temperature, nucleus, noise)
    assert (good.gather(1, drawn[:, None]) > low).all()
    for bad in ([float("nan"), 0.0, 1.0], [0.0, float("inf"), 1.0], [low, low, low], [float("nan")] * 3):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            logits = good.to(dtype).clone()
            logits[2] = torch.tensor(bad)
            for call in (lambda x: draw(x, temperature, nucleus, noise), lambda x: probabilities(x, temperature)):
                with pytest.raises(NotFiniteError, match="row 2: NaN or infinity") as caught:
                    call(logits)
                assert caught.value.rows == (2,)


def test_weights_that_cannot_be_drawn_from_are_refused():
    for bad in ([float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0]):
        weights = torch.tensor([[0.5, 0.5], bad], dtype=torch.float64)
        with pytest.raises(NotFiniteError, match="row 1"):
            inverse_cdf(weights, torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0, "2"])
def test_guidance_is_a_finite_number(scale):
    with pytest.raises(ConfigError, match="guidance: "):
        Guided(None, scale, 1)
