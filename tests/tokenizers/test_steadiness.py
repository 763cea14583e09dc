"""The overlap rate and the jitter entropy, where both are known."""

import math

import pytest
import torch

from anyorder.testing.chunks import recorded_like, smooth
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.bins import BinsTokenizer
from anyorder.tokenizers.steadiness import JITTERED_CHUNKS, JITTERS, jitter_entropy, overlap, steadiness

BINS = BinsTokenizer(4, 2, bins=10)
WIDTH = 0.2
QUICK = {"registers": {"steps": 30}}


def moving(frames, velocity, start=-0.9):
    """Chunks of 4 that begin at every frame; the first dimension moves, the second stays."""
    place = start + velocity * (torch.arange(frames).unsqueeze(1) + torch.arange(4))
    return torch.stack([place, torch.full_like(place, 0.1)], -1)


@pytest.mark.parametrize(("velocity", "rate"), [(0.0, 1.0), (WIDTH, 0.5), (WIDTH / 2, 0.75)])
def test_overlap_of_a_steady_motion_is_known(velocity, rate):
    # In bins that it crosses in 1 or 2 frames, none or half of the moving dimension's tokens stay.
    chunks = moving(5, velocity, -0.85)
    found = steadiness(BINS, chunks, BINS.encode(chunks), torch.zeros(5))
    assert (found.overlap_rate, found.neighbours) == (pytest.approx(rate), 4)


def test_neighbours_are_of_one_episode():
    chunks = torch.cat([moving(3, 0.0), -moving(2, 0.0), moving(1, 0.0)])
    found = steadiness(BINS, chunks, BINS.encode(chunks), torch.tensor([4, 4, 4, 7, 7, 9]))
    assert (found.overlap_rate, found.neighbours) == (1.0, 3)
    alone = steadiness(BINS, chunks[:1], BINS.encode(chunks[:1]), torch.zeros(1))
    assert (alone.overlap_rate, alone.neighbours) == (None, 0)


def test_codes_of_variable_length_are_compared_as_multisets():
    tokenizer = TokenizerConfig.named("fast").fit(recorded_like(100))
    assert tokenizer.pad_token is not None
    pad = tokenizer.pad_token
    codes = torch.full((3, tokenizer.length), pad)
    codes[0, :4] = torch.tensor([1, 2, 2, 3])
    codes[1, :5] = torch.tensor([9, 2, 1, 2, 2])
    codes[2, :2] = torch.tensor([4, 4])
    found = overlap(tokenizer, codes[[0, 1, 0, 0]], codes[[1, 0, 2, 0]])
    assert found.tolist() == [3 / 5, 3 / 5, 0.0, 1.0]
    many = codes[:2].repeat(300, 1)
    assert overlap(tokenizer, many, many.flip(0)).tolist() == [3 / 5] * 600
    assert overlap(tokenizer, codes[:0], codes[:0]).shape == (0,)
    chunks = recorded_like(4)
    assert steadiness(tokenizer, chunks[:1], tokenizer.encode(chunks[:1]), torch.zeros(1)).overlap_rate is None


def binned_entropy(value, jitter):
    """Entropy in nats of the bin of a value with noise, by the normal distribution."""
    edges = torch.linspace(-1, 1, 11, dtype=torch.float64)
    edges[0], edges[-1] = -math.inf, math.inf
    below = torch.special.ndtr((edges - value) / jitter)
    chance = below.diff()
    return -torch.xlogy(chance, chance).sum().item()


@pytest.mark.parametrize("jitter", [0.01, 0.05, 0.1, 0.3])
def test_jitter_entropy_of_bins_is_that_of_the_normal_distribution(jitter):
    chunks = smooth(200, 4, 2).clamp(-0.98, 0.98)
    rows = torch.linspace(0, 199, JITTERED_CHUNKS).long()
    exact = sum(binned_entropy(value, jitter) for value in chunks[rows].double().flatten().tolist())
    found = jitter_entropy(BINS, chunks, jitter)
    assert found == pytest.approx(exact / (8 * JITTERED_CHUNKS), abs=0.015)


def test_jitter_entropy_at_an_edge_is_one_bit_and_within_a_bin_nothing():
    inside, edge = torch.full((1, 4, 2), 0.1), torch.full((1, 4, 2), 0.2)
    assert jitter_entropy(BINS, inside.expand(128, -1, -1), 0.01) == 0
    assert jitter_entropy(BINS, edge.expand(128, -1, -1), 0.01) == pytest.approx(math.log(2), abs=0.01)
    half = torch.cat([inside, edge], 0)
    assert jitter_entropy(BINS, half.repeat(64, 1, 1), 0.01) == pytest.approx(math.log(2) / 2, abs=0.01)
    assert jitter_entropy(BINS, edge, 0.0) == 0


def test_more_than_the_draws_can_show_is_not_claimed():
    fine = BinsTokenizer(1, 1, bins=60_000)
    assert jitter_entropy(fine, torch.zeros(4, 1, 1), 0.3) < math.log(JITTERS) + 0.5


@pytest.mark.parametrize("choice", sorted(TokenizerConfig.choices))
def test_every_tokenizer_repeats_and_grows_with_the_jitter(choice):
    tokenizer = TokenizerConfig.named(choice, **QUICK.get(choice, {})).fit(recorded_like(200))
    chunks = recorded_like(30, seed=2)
    small, again, large = (jitter_entropy(tokenizer, chunks, jitter) for jitter in (0.002, 0.002, 0.05))
    assert 0 <= small == again < large
    codes = tokenizer.encode(chunks)
    assert overlap(tokenizer, codes, codes).tolist() == [1.0] * 30
    assert bool((overlap(tokenizer, codes, codes.flip(0)) < 1).any())
