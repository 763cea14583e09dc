import torch
from scipy import stats

from anyorder.factorization.categorical import inverse_cdf, probabilities, uniforms


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
