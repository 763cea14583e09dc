"""The automaton against brute force over all sequences."""

import itertools

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN, LegalTokens, TokenAutomaton

LENGTH = 4
# Tokens 0 and 1 count one, token 2 counts two, token 3 ends; the count has to be 3. States: 0..3, then ended.
AUTOMATON = TokenAutomaton(
    torch.tensor([0, 0, 1, 2]),
    torch.tensor([[1, 2, -1], [2, 3, -1], [3, -1, -1], [-1, -1, 4], [-1, -1, 4]]),
    start=0,
    accept=4,
)
EVERY = torch.tensor(list(itertools.product(range(4), repeat=LENGTH)))
LEGAL = EVERY[AUTOMATON.accepts(EVERY)]


def test_accepts_is_the_definition():
    def legal(code):
        value = {0: 1, 1: 1, 2: 2}
        end = code.index(3) if 3 in code else len(code)
        return end < len(code) and sum(value[t] for t in code[:end]) == 3 and set(code[end:]) == {3}

    assert AUTOMATON.accepts(EVERY).tolist() == [legal(code) for code in EVERY.tolist()]


@pytest.mark.parametrize("known", list(itertools.product((UNKNOWN, 0, 2, 3), repeat=LENGTH)))
def test_what_is_allowed_is_what_some_legal_sequence_has(known):
    tokens = torch.tensor([known])
    fits = LEGAL[((tokens < 0) | (tokens == LEGAL)).all(1)]
    if not len(fits):
        with pytest.raises(ConfigError, match="known, row 0"):
            LegalTokens(AUTOMATON, tokens)
        return
    legal = LegalTokens(AUTOMATON, tokens)
    for i in range(LENGTH):
        if known[i] < 0:
            assert legal.allowed(i)[0].nonzero().flatten().tolist() == sorted(set(fits[:, i].tolist()))


@pytest.mark.parametrize("order", list(itertools.permutations(range(LENGTH))))
def test_placing_in_any_order_equals_starting_afresh(order):
    code = LEGAL[len(LEGAL) // 2 :][:2]
    tokens = torch.full_like(code, UNKNOWN)
    legal = LegalTokens(AUTOMATON, tokens)
    for i in order:
        for j in range(LENGTH):
            assert torch.equal(legal.allowed(j), LegalTokens(AUTOMATON, tokens).allowed(j))
        # One row may stay behind the others.
        tokens[:, i] = torch.where(torch.tensor([True, i % 2 == 0]), code[:, i], UNKNOWN)
        legal.place(i, tokens[:, i])
    assert bool(legal.allowed(order[0])[0, code[0, order[0]]])
