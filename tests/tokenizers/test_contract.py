"""What every tokenizer promises. A new one is covered by joining its family."""

import copy
import json
from functools import lru_cache

import pytest
import torch
from safetensors.torch import load_file, save_file

from anyorder.errors import DecodeError, UserError
from anyorder.factorization import LegalTokens
from anyorder.tokenizers import TokenizerConfig
from tests.tokenizers.chunks import noise, recorded_like, smooth

CHOICES = sorted(TokenizerConfig.choices)
SHAPES = [(16, 6), (1, 3), (7, 1), (1, 1)]

each_choice = pytest.mark.parametrize("choice", CHOICES)
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")


@lru_cache
def fitted(choice, shape=(16, 6)):
    return TokenizerConfig.from_options(choice, {}).fit(recorded_like(400, *shape))


def inputs(shape):
    """Yield batches that a tokenizer meets: like its data, smaller, wilder, out of range, still."""
    yield recorded_like(60, *shape, seed=3)
    yield smooth(60, *shape, seed=4, peak=0.5)
    yield noise(60, *shape)
    yield 3 * smooth(20, *shape, seed=5)
    yield torch.stack([torch.full(shape, v) for v in (-1.0, 0.0, 1e-30, 0.3, 1.0)])


def legal_sequences(tokenizer, count, generator):
    """Draw sequences uniformly step by step among the tokens that the constraint allows."""
    automaton = tokenizer.constraint
    if automaton is None:
        return torch.randint(tokenizer.vocab_size, (count, tokenizer.length), generator=generator)
    tokens = torch.full((count, tokenizer.length), -1)
    legal = LegalTokens(automaton, tokens)
    for i in range(tokenizer.length):
        tokens[:, i] = torch.multinomial(legal.allowed(i).float(), 1, generator=generator).squeeze(1)
        legal.place(i, tokens[:, i])
    return tokens


@each_choice
@each_shape
def test_codes_are_tokens_and_decode_into_the_range(choice, shape):
    tokenizer = fitted(choice, shape)
    for chunks in inputs(shape):
        tokens = tokenizer.encode(chunks)
        assert tokens.dtype == torch.int64
        assert tokens.shape == (len(chunks), tokenizer.length)
        assert 0 <= tokens.min() <= tokens.max() < tokenizer.vocab_size
        decoded = tokenizer.decode(tokens)
        assert decoded.dtype == torch.float32
        assert decoded.shape == chunks.shape
        assert decoded.abs().max() <= 1
        if tokenizer.constraint is not None:
            assert tokenizer.constraint.accepts(tokens).all()


@each_choice
@each_shape
def test_error_stays_within_the_declared_bound(choice, shape):
    tokenizer = fitted(choice, shape)
    if tokenizer.max_rmse is None:
        pytest.skip("declares no bound")
    assert tokenizer.lossless(recorded_like(400, *shape)).all()
    for chunks in inputs(shape):
        chunks = chunks.clamp(-1, 1)
        kept = tokenizer.lossless(chunks)
        assert kept.shape == (len(chunks),)
        assert kept.dtype == torch.bool
        rmse = (tokenizer.decode(tokenizer.encode(chunks)) - chunks).square().mean((1, 2)).sqrt()
        assert (rmse[kept] <= tokenizer.max_rmse * (1 + 1e-5)).all()


@each_choice
@each_shape
def test_codes_its_own_output_by_itself(choice, shape):
    tokenizer = fitted(choice, shape)
    if tokenizer.max_rmse is None:
        pytest.skip("learned codes need not")
    # Away from the ends of the range: what decoding clips is another chunk.
    tokens = tokenizer.encode(smooth(200, *shape, seed=6, peak=0.7))
    decoded = tokenizer.decode(tokens)
    inside = decoded.abs().amax((1, 2)) < 1
    assert inside.float().mean() > 0.9
    assert torch.equal(tokenizer.encode(decoded)[inside], tokens[inside])


@each_choice
@each_shape
def test_a_chunk_has_the_same_code_in_every_batch(choice, shape):
    tokenizer = fitted(choice, shape)
    for chunks in inputs(shape):
        chunks = chunks[:12]
        tokens = tokenizer.encode(chunks)
        alone = torch.cat([tokenizer.encode(chunk) for chunk in chunks.split(1)])
        assert torch.equal(tokens, alone)
        decoded_alone = torch.cat([tokenizer.decode(code) for code in tokens.split(1)])
        torch.testing.assert_close(tokenizer.decode(tokens), decoded_alone, rtol=0, atol=1e-6)
    assert tokenizer.encode(torch.zeros(0, *shape)).shape == (0, tokenizer.length)
    assert tokenizer.decode(torch.zeros(0, tokenizer.length, dtype=torch.int64)).shape == (0, *shape)


@each_choice
@each_shape
def test_spec_and_weights_restore_it(choice, shape, tmp_path):
    tokenizer = fitted(choice, shape)
    save_file(tokenizer.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "spec.json").write_text(json.dumps(tokenizer.spec()))

    restored = TokenizerConfig.load(choice, json.loads((tmp_path / "spec.json").read_text()))
    restored.load_state_dict(load_file(tmp_path / "weights.safetensors"), strict=True)
    assert (restored.vocab_size, restored.length) == (tokenizer.vocab_size, tokenizer.length)
    for other in (restored, copy.deepcopy(tokenizer)):
        for chunks in inputs(shape):
            tokens = tokenizer.encode(chunks)
            assert torch.equal(other.encode(chunks), tokens)
            assert torch.equal(other.decode(tokens), tokenizer.decode(tokens))


@each_choice
def test_half_precision_policies_keep_their_codes(choice):
    chunks = recorded_like(50, seed=7)
    tokens = fitted(choice).encode(chunks)
    lowered = copy.deepcopy(fitted(choice)).to(torch.bfloat16)
    assert torch.equal(lowered.encode(chunks), tokens)
    assert torch.equal(lowered.decode(tokens), fitted(choice).decode(tokens))
    assert lowered.encode(chunks.bfloat16()).shape == tokens.shape


@each_choice
def test_fit_depends_on_the_data_alone(choice):
    config = TokenizerConfig.from_options(choice, {})
    assert TokenizerConfig.from_options(choice, config.options()) == config
    again = config.fit(recorded_like(400))
    assert again.spec() == fitted(choice).spec()
    for name, value in fitted(choice).state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@each_choice
@each_shape
def test_every_legal_sequence_decodes(choice, shape):
    tokenizer = fitted(choice, shape)
    tokens = legal_sequences(tokenizer, 50, torch.Generator().manual_seed(0))
    decoded = tokenizer.decode(tokens)
    assert decoded.isfinite().all()
    assert decoded.abs().max() <= 1


@each_choice
@each_shape
def test_decodes_exactly_what_the_constraint_accepts(choice, shape):
    tokenizer = fitted(choice, shape)
    generator = torch.Generator().manual_seed(1)
    tokens = tokenizer.encode(recorded_like(200, *shape, seed=8))
    place = torch.randint(tokenizer.length, (200, 1), generator=generator)
    corrupt = tokens.scatter(1, place, torch.randint(tokenizer.vocab_size, (200, 1), generator=generator))
    legal = torch.ones(200, dtype=torch.bool)
    if tokenizer.constraint is not None:
        legal = tokenizer.constraint.accepts(corrupt)
    for row, is_legal in zip(corrupt.split(1), legal.tolist(), strict=True):
        if is_legal:
            decoded = tokenizer.decode(row)
            assert decoded.isfinite().all()
            assert decoded.abs().max() <= 1
        else:
            with pytest.raises(DecodeError, match="row 0"):
                tokenizer.decode(row)
    if not legal.all():
        first = int((~legal).nonzero()[0])
        with pytest.raises(DecodeError, match=f"row {first}:"):
            tokenizer.decode(corrupt)


@each_choice
def test_token_count_leaves_out_the_padding(choice):
    tokenizer = fitted(choice)
    tokens = tokenizer.encode(recorded_like(50, seed=9))
    count = tokenizer.token_count(tokens)
    assert count.shape == (50,)
    assert (count >= 1).all()
    assert (count <= tokenizer.length).all()
    for row, n in zip(tokens, count.tolist(), strict=True):
        assert tokenizer.pad_token not in row[:n].tolist()


@each_choice
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(choice, bad):
    chunks = recorded_like(3)
    chunks[2, 5, 1] = bad
    for use in (fitted(choice).encode, fitted(choice).lossless, TokenizerConfig.from_options(choice, {}).fit):
        with pytest.raises(UserError, match="chunk 2 holds NaN or infinity"):
            use(chunks)


@each_choice
@pytest.mark.parametrize("shape", [(16, 6), (4, 15, 6), (4, 16, 5), (4, 16, 6, 1)])
def test_wrong_shapes_are_refused(choice, shape):
    with pytest.raises(UserError, match=r"actions: .* allowed: shape"):
        fitted(choice).encode(torch.zeros(shape))


@each_choice
def test_tokens_of_the_wrong_shape_or_range_are_refused(choice):
    tokenizer = fitted(choice)
    tokens = tokenizer.encode(recorded_like(4))
    for wrong in (tokens[:, :-1], tokens[0]):
        with pytest.raises(DecodeError, match="allowed: shape"):
            tokenizer.decode(wrong)
    for value in (-1, tokenizer.vocab_size):
        tokens[2, 0] = value
        with pytest.raises(DecodeError, match=r"row 2: .* allowed: integers"):
            tokenizer.decode(tokens)


@each_choice
def test_data_without_chunks_or_axes_is_refused(choice):
    for shape in [(16, 6), (4, 0, 6), (4, 16, 0)]:
        with pytest.raises(UserError, match=r"actions: .* allowed: shape"):
            TokenizerConfig.from_options(choice, {}).fit(torch.zeros(shape))
