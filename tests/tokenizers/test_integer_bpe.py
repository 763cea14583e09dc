import pytest
import torch
from tokenizers import Tokenizer, models

from anyorder.errors import CheckpointError
from anyorder.testing.chunks import noise, recorded_like
from anyorder.tokenizers.dct import quantize
from anyorder.tokenizers.integer_bpe import IntegerBPE, learn_merges


def spelling(bpe, token):
    start = int(bpe.spelling_start[token])
    return "".join(chr(0x4E00 + s) for s in bpe.spelling[start : start + int(bpe.count[token])].tolist())


def library_codes(bpe, sequences):
    """Encode with the Rust library, given the same merges."""
    names = [spelling(bpe, token) for token in range(bpe.tokens)]
    merges = [(names[left], names[right]) for left, right in bpe.merges.tolist()]
    model = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=merges))
    texts = ["".join(chr(0x4E00 + s) for s in row) for row in sequences.tolist()]
    return [encoding.ids for encoding in model.encode_batch(texts)]


def learnt(sequences, symbols, max_merges):
    merges = learn_merges(sequences, symbols, max_merges, min_frequency=2)
    return IntegerBPE(symbols, len(merges)).fill(merges)


def assert_same_as_library(bpe, sequences):
    codes, lengths = bpe.encode(sequences)
    ours = [row.tolist() for row in codes.split(lengths.tolist())]
    assert ours == library_codes(bpe, sequences)
    assert torch.equal(bpe.expand(codes), sequences.flatten())


@pytest.mark.parametrize("shape", [(16, 6), (50, 14)])
def test_equals_the_library_on_action_codes(shape):
    def symbols_of(chunks):
        return (quantize(chunks, 10.0) + 75).clamp(0, 150)

    bpe = learnt(symbols_of(recorded_like(600, *shape)), 151, 800)
    assert bpe.tokens > 400
    for chunks in (recorded_like(600, *shape, seed=3), noise(100, *shape), torch.zeros(2, *shape)):
        assert_same_as_library(bpe, symbols_of(chunks))


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_library_where_merges_collide(seed):
    # Tiny alphabets: long runs of one symbol, and every pair competes with both of its neighbours.
    generator = torch.Generator().manual_seed(seed)
    symbols = 2 + seed % 3
    weights = torch.rand(symbols, generator=generator) ** 2 + 0.02
    draw = torch.multinomial(weights, 700 * 40, replacement=True, generator=generator)
    sequences = draw.view(700, 40)
    bpe = learnt(sequences[:200], symbols, 150)
    assert_same_as_library(bpe, sequences)
    assert_same_as_library(bpe, torch.zeros(3, 41, dtype=torch.int64))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_library_for_merges_that_no_data_would_give(seed):
    generator = torch.Generator().manual_seed(seed)
    spelt, merges = {(0,), (1,), (2,)}, []
    tokens = [(0,), (1,), (2,)]
    while len(merges) < 60:
        left, right = torch.randint(len(tokens), (2,), generator=generator).tolist()
        joined = tokens[left] + tokens[right]
        if joined not in spelt and len(joined) <= 8:
            spelt.add(joined)
            tokens.append(joined)
            merges.append((left, right))
    bpe = IntegerBPE(3, 60).fill(torch.tensor(merges))
    assert_same_as_library(bpe, torch.randint(3, (600, 30), generator=generator))


def test_neighbour_that_grows_goes_first():
    # Ranks: cd < b(cd) < ab < bc. In a b c d the pair ab beats bc, and still must wait: b joins cd before.
    bpe = IntegerBPE(4, 4).fill(torch.tensor([[2, 3], [1, 4], [0, 1], [1, 2]]))
    codes, _ = bpe.encode(torch.tensor([[0, 1, 2, 3]]))
    assert codes.tolist() == [0, 5]


def test_runs_are_paired_from_the_left():
    bpe = IntegerBPE(2, 2).fill(torch.tensor([[0, 0], [2, 0]]))
    for zeros, code in [(1, [0]), (2, [2]), (3, [3]), (4, [2, 2]), (5, [2, 3]), (7, [2, 2, 3])]:
        codes, lengths = bpe.encode(torch.tensor([[1] + [0] * zeros + [1]]))
        assert codes.tolist() == [1, *code, 1]
        assert lengths.tolist() == [len(code) + 2]


def test_without_merges_a_code_is_its_sequence():
    bpe = learnt(torch.tensor([[0, 1, 2]]), 3, 0)
    codes, lengths = bpe.encode(torch.tensor([[2, 1], [0, 0]]))
    assert codes.tolist() == [2, 1, 0, 0]
    assert lengths.tolist() == [2, 2]


def test_every_token_is_spelt_once():
    bpe = learnt(torch.randint(2, (300, 50), generator=torch.Generator().manual_seed(0)), 2, 300)
    assert len({spelling(bpe, token) for token in range(bpe.tokens)}) == bpe.tokens


def test_damaged_merges_are_refused():
    with pytest.raises(CheckpointError, match="merges are damaged"):
        IntegerBPE(2, 2).load_state_dict({"merges": torch.tensor([[0, 1], [4, 0]])})
