"""The contract of a tokenizer, as checks that run on any of them."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from anyorder.errors import DecodeError, UserError
from anyorder.factorization import LegalTokens
from anyorder.testing.chunks import noise, recorded_like, smooth
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig

SHAPES = ((16, 6), (1, 3), (7, 1), (1, 1))

Check = Callable[[TokenizerConfig, tuple[int, int]], None]
CHECKS: dict[str, Check] = {}
"""Every check by name; each takes a tokenizer's settings and a chunk's shape (horizon, action size)."""


def check(function: Check) -> Check:
    """Add a check to the contract."""
    CHECKS[function.__name__] = function
    return function


def check_tokenizer(config: TokenizerConfig, shapes: tuple[tuple[int, int], ...] = SHAPES) -> list[str]:
    """Run every check on a tokenizer with these settings, for chunks of several shapes; return their names.

    Raises:
        AssertionError: the tokenizer breaks a promise; the message names the check and says how.

    >>> len(check_tokenizer(TokenizerConfig.named("bins", bins=16), shapes=((4, 2),)))
    14
    """
    for name, function in CHECKS.items():
        for shape in shapes:
            try:
                function(config, shape)
            except AssertionError as error:
                raise AssertionError(f"{name}, chunks of {shape[0]} x {shape[1]}: {error}") from error
    return list(CHECKS)


def fitted(config: TokenizerConfig, shape: tuple[int, int]) -> ActionTokenizer:
    """Return the tokenizer fitted to chunks like recorded ones; the same object for the same arguments."""
    return _fitted(config.choice, json.dumps(config.options()), shape)


@lru_cache(maxsize=64)
def _fitted(choice: str, options: str, shape: tuple[int, int]) -> ActionTokenizer:
    return TokenizerConfig.named(choice, **json.loads(options)).fit(recorded_like(400, *shape))


def inputs(shape: tuple[int, int]) -> Iterator[Tensor]:
    """Yield batches that a tokenizer meets: like its data, smaller, wilder, out of range, still."""
    yield recorded_like(60, *shape, seed=3)
    yield smooth(60, *shape, seed=4, peak=0.5)
    yield noise(60, *shape)
    yield 3 * smooth(20, *shape, seed=5)
    yield torch.stack([torch.full(shape, v) for v in (-1.0, 0.0, 1e-30, 0.3, 1.0)])


def legal_sequences(tokenizer: ActionTokenizer, count: int, generator: torch.Generator) -> Tensor:
    """Draw sequences uniformly step by step among the tokens that the constraint allows."""
    if tokenizer.constraint is None:
        return torch.randint(tokenizer.vocab_size, (count, tokenizer.length), generator=generator)
    tokens = torch.full((count, tokenizer.length), -1)
    legal = LegalTokens(tokenizer.constraint, tokens)
    for i in range(tokenizer.length):
        allowed = legal.allowed(i)
        tokens[:, i] = torch.rand(allowed.shape, generator=generator).masked_fill(~allowed, -1).argmax(1)
        legal.place(i, tokens[:, i])
    return tokens


def refuses(call: Callable[[], object], kind: type[Exception], words: str, what: str) -> None:
    """Assert that a call raises ``kind`` with ``words`` in its message."""
    message = None
    try:
        call()
    except kind as error:
        message = str(error)
    assert message is not None, f"{what} was not refused"
    assert words in message, f"{what}: the message lacks '{words}': {message}"


@check
def codes_are_tokens_and_decode_into_the_range(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Integers below the vocabulary's size, legal, that decode to finite chunks in [-1, 1]."""
    tokenizer = fitted(config, shape)
    for chunks in inputs(shape):
        tokens = tokenizer.encode(chunks)
        assert tokens.dtype == torch.int64, f"tokens are {tokens.dtype}"
        assert tokens.shape == (len(chunks), tokenizer.length), f"codes of shape {tuple(tokens.shape)}"
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < tokenizer.vocab_size, "outside the vocabulary"
        decoded = tokenizer.decode(tokens)
        assert decoded.dtype == torch.float32, f"chunks are {decoded.dtype}"
        assert decoded.shape == chunks.shape, f"chunks of shape {tuple(decoded.shape)}"
        assert bool((decoded.abs() <= 1).all()), "decoded values outside [-1, 1]"
        if tokenizer.constraint is not None:
            assert bool(tokenizer.constraint.accepts(tokens).all()), "a code is not legal"


@check
def error_stays_within_the_declared_bound(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """``max_rmse`` holds where ``lossless``; the data it was fitted to is lossless."""
    tokenizer = fitted(config, shape)
    if tokenizer.max_rmse is None:
        return
    assert bool(tokenizer.lossless(recorded_like(400, *shape)).all()), "its own data is not lossless"
    for chunks in inputs(shape):
        clipped = chunks.clamp(-1, 1)
        kept = tokenizer.lossless(clipped)
        assert kept.shape == (len(clipped),), f"lossless has shape {tuple(kept.shape)}"
        rmse = (tokenizer.decode(tokenizer.encode(clipped)) - clipped).square().mean((1, 2)).sqrt()
        assert bool((rmse[kept] <= tokenizer.max_rmse * (1 + 1e-5)).all()), "error above max_rmse"


@check
def beats_the_mean_on_its_own_data(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Reconstruction leaves less than a fifth of the data's variance, or no more than the declared error."""
    chunks = recorded_like(400, *shape)
    error = (fitted(config, shape).decode(fitted(config, shape).encode(chunks)) - chunks).square().mean()
    variance = (chunks - chunks.mean(0)).square().mean()
    # A constant has no variance; its error is the tokenizer's precision, up to rounding.
    precision: float = 1.001 * (fitted(config, shape).max_rmse or 0.01)
    allowed = max(0.2 * float(variance), precision**2)
    assert float(error) <= allowed, f"mean square error {error:.4f}, variance {variance:.4f}"


@check
def codes_its_own_output_by_itself(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Decoding and encoding again gives the same code, away from the ends of the range; learnt codes need not."""
    tokenizer = fitted(config, shape)
    if tokenizer.max_rmse is None:
        return
    tokens = tokenizer.encode(smooth(200, *shape, seed=6, peak=0.7))
    decoded = tokenizer.decode(tokens)
    inside = (decoded.abs().amax((1, 2)) < 1) & tokenizer.lossless(decoded)
    assert inside.float().mean() > 0.9, "most chunks decode to the ends of the range"
    assert torch.equal(tokenizer.encode(decoded)[inside], tokens[inside]), "another code"


@check
def a_chunk_has_the_same_code_in_every_batch(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Bit for bit; and empty batches work."""
    tokenizer = fitted(config, shape)
    for chunks in inputs(shape):
        tokens = tokenizer.encode(chunks[:12])
        alone = torch.cat([tokenizer.encode(chunk) for chunk in chunks[:12].split(1)])
        assert torch.equal(tokens, alone), "the code depends on the batch"
        apart = torch.cat([tokenizer.decode(code) for code in tokens.split(1)])
        assert float((tokenizer.decode(tokens) - apart).abs().max()) <= 1e-6, "the chunk depends on the batch"
    assert tokenizer.encode(torch.zeros(0, *shape)).shape == (0, tokenizer.length), "an empty batch fails"
    empty = torch.zeros(0, tokenizer.length, dtype=torch.int64)
    assert tokenizer.decode(empty).shape == (0, *shape), "an empty batch fails"


@check
def spec_and_weights_restore_it(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Through JSON and safetensors; copies agree, too."""
    tokenizer = fitted(config, shape)
    with tempfile.TemporaryDirectory() as folder:
        save_file(tokenizer.state_dict(), Path(folder) / "weights.safetensors")
        spec = json.loads(json.dumps(tokenizer.spec()))
        restored = TokenizerConfig.load(config.choice, spec)
        restored.load_state_dict(load_file(Path(folder) / "weights.safetensors"), strict=True)
    same = (restored.vocab_size, restored.length, restored.levels)
    assert same == (tokenizer.vocab_size, tokenizer.length, tokenizer.levels), "another code"
    for other in (restored, copy.deepcopy(tokenizer)):
        for chunks in inputs(shape):
            tokens = tokenizer.encode(chunks)
            assert torch.equal(other.encode(chunks), tokens), "restored, it codes differently"
            assert torch.equal(other.decode(tokens), tokenizer.decode(tokens)), "restored, it decodes differently"


@check
def half_precision_keeps_codes(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """A policy cast to bfloat16 takes its tokenizer along; the codes stay."""
    tokenizer, chunks = fitted(config, shape), recorded_like(50, *shape, seed=7)
    tokens = tokenizer.encode(chunks)
    lowered = copy.deepcopy(tokenizer).to(torch.bfloat16)
    assert torch.equal(lowered.encode(chunks), tokens), "bfloat16 changes codes"
    assert torch.equal(lowered.decode(tokens), tokenizer.decode(tokens)), "bfloat16 changes chunks"


@check
def fit_depends_on_the_data_alone(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Two fits to the same chunks are equal, and settings survive a round trip."""
    assert TokenizerConfig.named(config.choice, **config.options()) == config, "settings do not round-trip"
    torch.manual_seed(99)
    again = config.fit(recorded_like(400, *shape))
    assert again.spec() == fitted(config, shape).spec(), "two fits have different specs"
    for name, value in fitted(config, shape).state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), f"two fits differ in {name}"


@check
def levels_partition_the_code(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Where a code has levels, their sizes sum to its length."""
    tokenizer = fitted(config, shape)
    if tokenizer.levels is not None:
        assert sum(tokenizer.levels) == tokenizer.length, f"levels {tokenizer.levels}, length {tokenizer.length}"
        assert min(tokenizer.levels) >= 1, f"an empty level in {tokenizer.levels}"


@check
def decodes_exactly_what_the_constraint_accepts(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Legal sequences and one-token corruptions: a finite chunk in range where legal, else ``DecodeError``."""
    tokenizer = fitted(config, shape)
    generator = torch.Generator().manual_seed(1)
    decoded = tokenizer.decode(legal_sequences(tokenizer, 50, generator))
    assert bool(decoded.isfinite().all()), "a legal sequence decodes to values that are not finite"
    tokens = tokenizer.encode(recorded_like(200, *shape, seed=8))
    place = torch.randint(tokenizer.length, (200, 1), generator=generator)
    corrupt = tokens.scatter(1, place, torch.randint(tokenizer.vocab_size, (200, 1), generator=generator))
    accepts = torch.ones(200, dtype=torch.bool)
    if tokenizer.constraint is not None:
        accepts = tokenizer.constraint.accepts(corrupt)
    for row, legal in zip(corrupt.split(1), accepts.tolist(), strict=True):
        if legal:
            assert bool((tokenizer.decode(row).abs() <= 1).all()), "a legal sequence leaves the range"
        else:
            refuses(partial(tokenizer.decode, row), DecodeError, "row 0", "an illegal sequence")


@check
def every_type_of_integer_decodes_alike(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Whatever type the tokens were stored in; other types are refused."""
    tokenizer = fitted(config, shape)
    tokens = tokenizer.encode(recorded_like(20, *shape, seed=10))
    decoded = tokenizer.decode(tokens)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32):
        rows = tokens.amax(1) <= torch.iinfo(dtype).max
        stored = tokens[rows].to(dtype)
        assert torch.equal(tokenizer.decode(stored), decoded[rows]), f"{dtype} decodes to other chunks"
        if tokenizer.constraint is not None:
            assert bool(tokenizer.constraint.accepts(stored).all()), f"{dtype} is not legal"
    for wrong in (tokens.float(), tokens.bool()):
        refuses(partial(tokenizer.decode, wrong), DecodeError, "integers", str(wrong.dtype))


@check
def token_count_leaves_out_the_padding(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """END counts, PAD does not."""
    tokenizer = fitted(config, shape)
    tokens = tokenizer.encode(recorded_like(50, *shape, seed=9))
    count = tokenizer.token_count(tokens)
    assert count.shape == (50,), f"shape {tuple(count.shape)}"
    assert bool(((count >= 1) & (count <= tokenizer.length)).all()), "counts outside 1..length"
    for row, n in zip(tokens, count.tolist(), strict=True):
        assert tokenizer.pad_token not in row[:n].tolist(), "padding was counted"


@check
def bad_chunks_are_refused(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """NaN and infinity, wrong shapes, no data: one clear line."""
    tokenizer = fitted(config, shape)
    for bad in (float("nan"), float("inf"), -float("inf")):
        chunks = recorded_like(3, *shape)
        chunks[2, 0, 0] = bad
        for use in (tokenizer.encode, tokenizer.lossless, config.fit):
            refuses(partial(use, chunks), UserError, "chunk 2 holds NaN or infinity", str(bad))
    for wrong in (shape, (4, shape[0] + 1, shape[1]), (4, shape[0], shape[1] + 1), (4, *shape, 1)):
        refuses(partial(tokenizer.encode, torch.zeros(wrong)), UserError, "allowed: shape", str(wrong))
    for wrong in (shape, (4, 0, shape[1]), (4, shape[0], 0)):
        refuses(partial(config.fit, torch.zeros(wrong)), UserError, "allowed: shape", str(wrong))


@check
def bad_tokens_are_refused(config: TokenizerConfig, shape: tuple[int, int]) -> None:
    """Wrong shapes and tokens outside the vocabulary: ``DecodeError``, with the row."""
    tokenizer = fitted(config, shape)
    tokens = tokenizer.encode(recorded_like(4, *shape))
    for wrong in (torch.cat([tokens, tokens], 1), tokens[0]):
        refuses(partial(tokenizer.decode, wrong), DecodeError, "allowed: shape", "a wrong shape")
    for value in (-1, tokenizer.vocab_size):
        tokens[2, 0] = value
        refuses(lambda: tokenizer.decode(tokens), DecodeError, "row 2", f"token {value}")
