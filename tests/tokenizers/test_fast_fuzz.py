"""Whatever tokens a network may produce: a chunk in range, or a typed error. Never an explosion, never silence."""

import pytest
import torch

from anyorder.errors import DecodeError
from anyorder.factorization import FactorizationConfig, Request
from anyorder.testing.chunks import recorded_like
from anyorder.testing.probes import generator, network_for
from anyorder.testing.tokenizers import legal_sequences
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.fast import FastConfig, quantize

BATCH = 50_000
counts = pytest.mark.parametrize("count", [2_000, pytest.param(1_000_000, marks=pytest.mark.slow)])


@pytest.fixture(scope="module", params=[{}, {"max_merges": 4096, "scale": 10.0}], ids=["default", "published"])
def tokenizer(request):
    return FastConfig(**request.param).fit(recorded_like(2000))


def decodes_or_refuses(tokenizer, tokens):
    """Assert that decoding agrees with the constraint row by row; return how many rows are legal."""
    accepts = tokenizer.constraint.accepts(tokens)
    in_range(tokenizer, tokenizer.decode(tokens[accepts]))
    for row in tokens[~accepts].split(1):
        with pytest.raises(DecodeError, match="row 0"):
            tokenizer.decode(row)
    return int(accepts.sum())


def in_range(tokenizer, chunks):
    assert chunks.isfinite().all()
    assert chunks.abs().amax() <= 1 if len(chunks) else True


def batches(count):
    return [min(BATCH, count - start) for start in range(0, count, BATCH)]


@counts
def test_random_sequences(tokenizer, count):
    random = generator(1)
    shape = tokenizer.length
    for size in batches(count):
        decodes_or_refuses(tokenizer, torch.randint(tokenizer.vocab_size, (size, shape), generator=random))


@counts
def test_one_token_corruptions(tokenizer, count):
    random = generator(2)
    legal = 0
    for i, size in enumerate(batches(count)):
        tokens = tokenizer.encode(recorded_like(size, seed=10 + i))
        place = torch.randint(tokenizer.length, (size, 1), generator=random)
        other = torch.randint(tokenizer.vocab_size, (size, 1), generator=random)
        legal += decodes_or_refuses(tokenizer, tokens.scatter(1, place, other))
    # A symbol for a symbol keeps the count of coefficients, so both outcomes must occur.
    assert 0 < legal < count


@counts
def test_random_choices_under_the_constraint_always_decode(tokenizer, count):
    random = generator(3)
    for size in batches(count):
        tokens = legal_sequences(tokenizer, size, random)
        assert tokenizer.constraint.accepts(tokens).all()
        chunks = tokenizer.decode(tokens)
        in_range(tokenizer, chunks)
        assert len(chunks) == size


@pytest.mark.parametrize("name", sorted(FactorizationConfig.choices))
def test_untrained_networks_under_the_constraint_always_decode(name):
    family = FactorizationConfig.named(name).build()
    if not family.discrete:
        return
    tokenizer = FastConfig().fit(recorded_like(500, 6, 3))
    if family.needs_levels:
        tokenizer = TokenizerConfig.named("dct").fit(recorded_like(500, 6, 3))
    network = network_for(family, tokenizer.length, tokenizer.vocab_size, seed=4)
    if family.needs_levels:
        network.levels = tokenizer.levels
    seen = torch.randn(64, 2, 16, generator=generator(5), dtype=torch.float64)
    for temperature in (0.0, 1.0, 5.0):
        tokens = family.sample(
            network, seen, Request(generator(6), temperature=temperature, constraint=tokenizer.constraint)
        ).chunk
        chunks = tokenizer.decode(tokens)
        assert chunks.shape == (64, 6, 3)
        in_range(tokenizer, chunks)


def test_a_legal_code_never_leaves_the_fitted_range_of_coefficients(tokenizer):
    tokens = legal_sequences(tokenizer, 500, generator(7))
    symbols = tokenizer.bpe.expand(tokens[tokens < tokenizer.end_token])
    assert 0 <= int(symbols.min()) <= int(symbols.max()) <= tokenizer.high - tokenizer.low
    kept = quantize(recorded_like(500, seed=3), tokenizer.scale)
    assert tokenizer.low <= int(kept.min()) <= int(kept.max()) <= tokenizer.high
