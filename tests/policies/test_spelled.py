"""The head for tokens that are several numbers in a row."""

import pytest
import torch

from anyorder.errors import CheckpointError, ConfigError
from anyorder.factorization.conditionals import Ordinal
from anyorder.networks import HeadConfig, OrdinalHead, SpelledHead
from anyorder.networks.spelled_head import UNSPELLED
from anyorder.policies.networks import SPELLED_NUMBERS
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.checkpoint import load_policy

from .test_policy import chunks, make, observation

SPELLED = HeadConfig("spelled", components=3)
WIDTH, LENGTH, SYMBOLS = 8, 4, 5
SPELLING = torch.tensor([[0, -1], [1, -1], [2, -1], [3, -1], [4, -1], [2, 2], [3, 0], [-1, -1]])


def batch(rows=8):
    return {**observation(rows), "action": chunks(rows)}


def head(spelling=SPELLING):
    torch.manual_seed(0)
    made = SpelledHead(WIDTH, LENGTH, SYMBOLS, len(spelling), spelling.shape[1], components=3).double()
    made.spell(spelling)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def ask(made):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, LENGTH, WIDTH, generator=generator, dtype=torch.float64)
    return features, made(features, torch.arange(LENGTH).expand(3, -1))


def test_a_token_is_as_likely_as_its_numbers_together():
    made = head()
    features, answer = ask(made)
    laws = made.numbers(features, torch.arange(LENGTH).expand(3, -1))
    free = torch.nn.functional.linear(features, made.free.weight, made.free.bias)
    expected = torch.zeros(3, LENGTH, len(SPELLING), dtype=torch.float64)
    for token, numbers in enumerate(SPELLING.tolist()):
        for j, number in enumerate(numbers):
            if number != UNSPELLED:
                law = Ordinal(laws.mixture[:, :, j : j + 1], (SYMBOLS,))
                expected[..., token] += law.log_prob(torch.full((3, LENGTH), number))
        if token >= SYMBOLS:
            expected[..., token] += free[..., token - SYMBOLS]
    expected = expected.log_softmax(-1)
    for token in range(len(SPELLING)):
        found = answer.log_prob(torch.full((3, LENGTH), token))
        torch.testing.assert_close(found, expected[..., token], rtol=0, atol=1e-12)


def test_tokens_of_one_number_each_have_the_ordinal_law():
    numbers = torch.arange(SYMBOLS).unsqueeze(1)
    made = head(numbers)
    features, answer = ask(made)
    alone = OrdinalHead(WIDTH, LENGTH, (SYMBOLS,), components=3).double()
    alone.load_state_dict(made.numbers.state_dict())
    law = alone(features, torch.arange(LENGTH).expand(3, -1))
    torch.testing.assert_close(answer.logits.log_softmax(-1), law.logits, rtol=0, atol=1e-12)


def test_the_first_tokens_are_one_number_each():
    wrong = SPELLING.clone()
    wrong[1, 0] = 2
    with pytest.raises(ValueError, match="one number each"):
        head(wrong)


def test_fast_spells_its_tokens():
    made = TokenizerConfig.named("fast", max_merges=6).fit(chunks().div(250))
    spelling = made.spelling(3)
    assert torch.equal(spelling[: made.symbols, 0], torch.arange(made.symbols))
    assert (spelling[: made.symbols, 1:] == UNSPELLED).all()
    assert (spelling[made.end_token :] == UNSPELLED).all()
    for token in range(made.symbols, made.bpe.tokens):
        numbers = made.bpe.expand(torch.tensor([token])).tolist()
        assert [n for n in spelling[token].tolist() if n != UNSPELLED] == numbers[:3]
    with pytest.raises(NotImplementedError, match="dct"):
        TokenizerConfig.named("dct").fit(chunks().div(250)).spelling(3)


@pytest.mark.parametrize("family", ["autoregressive", "masked_diffusion", "block_diffusion", "chunked", "independent"])
def test_every_family_learns_acts_and_is_saved(family, tmp_path):
    policy = make(family, head=SPELLED)
    assert isinstance(policy.network.head, SpelledHead)
    found = policy.network.head.spelling
    assert torch.equal(found, policy.tokenizer.spelling(SPELLED_NUMBERS))
    policy.train()(batch())[0].backward()
    for name, parameter in policy.network.head.named_parameters():
        assert bool(parameter.grad.abs().max() > 0), name
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    for each in (policy, loaded):
        each.eval().manual_seed(5)
    first, second = (each.predict_action_chunk(observation()) for each in (policy, loaded))
    assert torch.equal(first, second)


def test_a_fresh_head_starts_at_the_mean_of_each_number():
    policy = make("autoregressive", head=SPELLED)
    spelled = policy.tokenizer.spelling(SPELLED_NUMBERS)[policy.codec.encode({**observation(200), "action": chunks()})]
    first = spelled[:, 0, 0].double()
    assert policy.network.head.numbers.mean[0, 0].double() == pytest.approx(float(first.mean()), abs=1e-3)
    assert policy.network.head.numbers.mean.isfinite().all()
    assert policy.network.head.numbers.spread.isfinite().all()


def test_it_stays_precise_where_a_policy_is_cast():
    policy = make("autoregressive", head=SPELLED).to(torch.bfloat16)
    assert policy.network.head.free.weight.dtype == torch.float32
    assert policy.network.head.spelling.dtype == torch.int64


@pytest.mark.parametrize(
    ("family", "settings"),
    [("autoregressive", {"tokenizer": "dct", "tokenizer_options": {}}), ("score_entropy", {}), ("regression", {})],
)
def test_it_is_refused_where_tokens_are_not_spelled(family, settings):
    with pytest.raises(ConfigError, match=r"head\.distribution: 'spelled' given, allowed: auto, but with tokenizer="):
        make(family, **settings, head=SPELLED)


def test_a_number_that_there_is_not_is_refused():
    policy = make("autoregressive", head=SPELLED)
    state = policy.state_dict()
    state["network.head.spelling"] = state["network.head.spelling"].clone()
    state["network.head.spelling"][0, 0] = 10_000
    with pytest.raises(CheckpointError, match="spelling"):
        policy.load_state_dict(state)
