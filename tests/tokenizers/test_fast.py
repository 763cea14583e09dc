import itertools
import math

import numpy as np
import pytest
import scipy.fft
import torch

from anyorder.errors import ConfigError, DecodeError
from anyorder.testing.chunks import noise, recorded_like, smooth
from anyorder.tokenizers import fast
from anyorder.tokenizers.dct import quantize
from anyorder.tokenizers.fast import FastConfig, FastTokenizer


def published_coefficients(chunks, scale):
    """The published algorithm up to its byte-pair encoding (arXiv 2501.09747, section IV)."""
    coefficients = scipy.fft.dct(chunks.double().numpy(), axis=1, norm="ortho")
    return torch.from_numpy(np.around(coefficients * scale).astype(np.int64)).flatten(1)


@pytest.mark.parametrize("horizon", [1, 2, 5, 16, 50, 64])
@pytest.mark.parametrize("scale", [10.0, 37.5])
def test_coefficients_are_the_published_ones(horizon, scale):
    for make in (smooth, noise):
        chunks = make(2000, horizon, 6, seed=horizon)
        assert torch.equal(quantize(chunks, scale), published_coefficients(chunks, scale))


@pytest.mark.parametrize(("horizon", "scale"), [(64, 10.0), (9, 4.5)])
def test_ties_round_to_even_whatever_the_batch(horizon, scale):
    # A gripper open for m of H steps has coefficient 0 equal to (2 m - H) scale / sqrt(H): often k + 1/2.
    open_steps = torch.arange(horizon + 1)
    chunks = torch.where(torch.arange(horizon) < open_steps[:, None], 1.0, -1.0).unsqueeze(2)
    exact = (2 * open_steps.double() - horizon) * (scale / math.sqrt(horizon))
    assert ((exact - exact.round()).abs() == 0.5).sum() > horizon / 3
    assert torch.equal(quantize(chunks, scale)[:, 0], exact.round().long())
    alone = torch.cat([quantize(chunk, scale) for chunk in chunks.split(1)])
    assert torch.equal(quantize(chunks.repeat(31, 1, 1), scale), alone.repeat(31, 1))


def test_smooth_motion_is_compressed():
    tokenizer = FastConfig(scale=10.0, max_merges=4096).fit(recorded_like(3000))
    tokens = tokenizer.encode(recorded_like(500, seed=2))
    assert tokenizer.token_count(tokens).float().mean() < 96 / 4
    assert tokenizer.length < 96 / 2


@pytest.mark.parametrize(("horizon", "action_size"), [(16, 6), (50, 14), (1, 1)])
def test_whatever_does_not_fit_is_cut_until_it_does(horizon, action_size):
    still = torch.zeros(10, horizon, action_size)
    tokenizer = FastConfig(scale=10.0, max_merges=4096, length_margin=0.0).fit(
        torch.cat([still, smooth(20, horizon, action_size, peak=0.1)])
    )
    zeros = int(tokenizer.token_count(tokenizer.encode(still))[0])
    tightest = FastConfig(scale=10.0, max_merges=4096, max_length=zeros).fit(
        torch.cat([still, recorded_like(300, horizon, action_size)])
    )
    for small in (tokenizer, tightest):
        wild = torch.cat([noise(200, horizon, action_size), noise(50, horizon, action_size).sign()])
        tokens = small.encode(wild)
        assert small.constraint.accepts(tokens).all()
        assert small.decode(tokens).isfinite().all()


def test_a_cut_code_keeps_the_low_frequencies():
    tokenizer = FastConfig(scale=10.0, max_merges=4096, max_length=20).fit(recorded_like(500))
    chunks = 0.5 * noise(100)
    assert not tokenizer.lossless(chunks).any()
    tokens = tokenizer.encode(chunks)
    kept = quantize(tokenizer.decode(tokens), tokenizer.scale)
    full = quantize(chunks, tokenizer.scale)
    for row, wanted in zip(kept, full, strict=True):
        cut_at = int((row != 0).nonzero().max()) + 1 if row.any() else 0
        assert torch.equal(row[:cut_at], wanted[:cut_at])
    assert tokenizer.token_count(tokens).float().mean() > 17


def test_wider_data_is_coded_and_never_becomes_zeros():
    narrow = 0.3 * recorded_like(1000)
    tokenizer = FastConfig(scale=10.0, max_merges=4096).fit(narrow)
    wide = 1.2 * narrow
    assert tokenizer.lossless(wide).float().mean() > 0.9
    assert (tokenizer.decode(tokenizer.encode(wide)) - wide).abs().max() < 0.5


def test_coefficients_beyond_the_alphabet_are_clamped():
    tokenizer = FastConfig(scale=10.0, max_merges=4096, alphabet_margin=0.0, max_length=97).fit(0.1 * smooth(500))
    chunks = torch.full((1, 16, 6), 0.9)
    assert not tokenizer.lossless(chunks).any()
    decoded = tokenizer.decode(tokenizer.encode(chunks))
    torch.testing.assert_close(decoded, torch.full_like(decoded, tokenizer.high / tokenizer.scale / 4))


def test_the_alphabet_never_exceeds_what_the_range_allows():
    tokenizer = FastConfig(scale=10.0, max_merges=4096, alphabet_margin=9.0).fit(recorded_like(100))
    assert (tokenizer.low, tokenizer.high) == (-40, 40)
    assert tokenizer.lossless(noise(10)).shape == (10,)


def test_automaton_is_exact_on_every_sequence():
    config = FastConfig(max_merges=4096, scale=1.0, vocab_size=9, alphabet_margin=0.0)
    tokenizer = config.fit(torch.tensor([[[1.0], [-1.0], [0.5]], [[1.0], [1.0], [1.0]]]).repeat(5, 1, 1))
    everything = torch.tensor(list(itertools.product(range(tokenizer.vocab_size), repeat=tokenizer.length)))
    legal = tokenizer.constraint.accepts(everything)
    assert 0 < legal.sum() < len(everything)
    assert tokenizer.decode(everything[legal]).abs().max() <= 1
    for row in everything[~legal][:: max(1, int((~legal).sum()) // 400)]:
        with pytest.raises(DecodeError):
            tokenizer.decode(row[None])


def test_errors_say_what_is_missing():
    tokenizer = FastConfig(scale=10.0, max_merges=4096).fit(recorded_like(300))
    tokens = tokenizer.encode(recorded_like(3))
    end = int((tokens[1] == tokenizer.end_token).nonzero()[0])
    short = tokens.clone()
    short[1] = tokenizer.pad_token
    short[1, 0] = tokenizer.end_token
    with pytest.raises(DecodeError, match=r"row 1: 0 coefficients and END at \[0\] given, allowed: 96"):
        tokenizer.decode(short)
    endless = tokens.clone()
    endless[1, end] = tokenizer.pad_token
    with pytest.raises(DecodeError, match=r"row 1: 96 coefficients and END at no place given"):
        tokenizer.decode(endless)


def test_loading_other_weights_renews_the_constraint():
    fitted = FastConfig(scale=10.0, max_merges=4096).fit(recorded_like(400))
    other = FastTokenizer(**fitted.spec())
    merges = len(fitted.bpe.merges)
    pairs_only = torch.cartesian_prod(torch.arange(40), torch.arange(40))[:merges]
    other.bpe.fill(pairs_only)
    assert other.constraint.next_state.shape[1] == 4
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(other.constraint.next_state, fitted.constraint.next_state)
    assert torch.equal(other.constraint.token_class, fitted.constraint.token_class)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale: 0.0 given"),
        ({"scale": float("inf")}, "scale: inf given"),
        ({"vocab_size": 5000}, "vocab_size: 5000 given, allowed: an integer >= 4 and <= 4096"),
        ({"vocab_size": 60}, "vocab_size: 60 given, allowed: at least 83"),
        ({"max_length": -1}, "max_length: -1 given"),
        ({"max_length": 1}, "max_length: 1 given, allowed: 0 or an integer > 1"),
        ({"min_frequency": 0}, "min_frequency: 0 given"),
        ({"alphabet_margin": -0.1}, "alphabet_margin: -0.1 given"),
        ({"length_margin": float("nan")}, "length_margin: nan given"),
    ],
)
def test_bad_settings_are_named(options, message):
    still_and_moving = torch.cat([torch.zeros(50, 16, 6), recorded_like(100)])
    with pytest.raises(ConfigError, match=message):
        FastConfig(**{"scale": 10.0, "max_merges": 4096, **options}).fit(still_and_moving)


def test_large_data_is_fitted_in_parts(monkeypatch):
    chunks = recorded_like(400)
    whole = FastConfig(scale=10.0, max_merges=4096).fit(chunks)
    monkeypatch.setattr(fast, "FIT_CHUNKS", 70)
    parts = FastConfig(scale=10.0, max_merges=4096).fit(chunks)
    assert (parts.low, parts.high) == (whole.low, whole.high)
    assert len(parts.bpe.merges) < len(whole.bpe.merges)
    assert parts.lossless(chunks).all()


def test_no_chunks_to_fit_to():
    with pytest.raises(ConfigError, match="chunks to fit to: 0 given"):
        FastConfig(scale=10.0, max_merges=4096).fit(torch.zeros(0, 16, 6))
