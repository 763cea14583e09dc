"""The automaton against brute force over all sequences."""

import itertools

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN, LegalTokens, TokenAutomaton
from anyorder.factorization.constraint import count_automaton

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


def random_automaton(seed, states=6, classes=4, vocab=7):
    """Any transitions, several into one state and none out of some; END alone stays in the last state."""
    source = torch.Generator().manual_seed(seed)
    next_state = torch.randint(-2, states, (states, classes), generator=source).clamp_min(-1)
    token_class = torch.cat([torch.arange(classes), torch.randint(classes, (vocab - classes,), generator=source)])
    return TokenAutomaton(token_class, next_state, start=0, accept=states - 1)


@pytest.mark.parametrize("seed", range(12))
def test_all_positions_at_once_and_another_in_each_row_are_what_brute_force_says(seed):
    automaton = random_automaton(seed)
    every = torch.tensor(list(itertools.product(range(7), repeat=LENGTH)))
    legal_codes = every[automaton.accepts(every)]
    if not len(legal_codes):
        with pytest.raises(ConfigError):
            LegalTokens(automaton, torch.full((1, LENGTH), UNKNOWN))
        return
    source = torch.Generator().manual_seed(seed)
    code = legal_codes[torch.randint(len(legal_codes), (5,), generator=source)]
    tokens = torch.full_like(code, UNKNOWN)
    legal = LegalTokens(automaton, tokens)
    rows = torch.arange(5)
    for _ in range(LENGTH):
        wanted = torch.zeros(5, LENGTH, 7, dtype=torch.bool)
        for row, place in itertools.product(range(5), range(LENGTH)):
            others = torch.arange(LENGTH) != place
            fits = ((tokens[row] < 0) | (tokens[row] == legal_codes) | ~others).all(1)
            wanted[row, place, legal_codes[fits, place]] = True
        assert torch.equal(legal.allowed_part(0, LENGTH), wanted)
        assert torch.equal(legal.allowed_part(1, 3), wanted[:, 1:3])
        places = torch.randint(LENGTH, (5,), generator=source)
        assert torch.equal(legal.allowed_rows(places), wanted[rows, places])
        tokens[rows, places] = code[rows, places]
        legal.place_rows(places, code[rows, places])
    # Taking tokens back.
    tokens[:, 1:3] = UNKNOWN
    legal.place_part(1, tokens[:, 1:3])
    fresh = LegalTokens(automaton, tokens)
    assert torch.equal(legal.allowed_part(0, LENGTH), fresh.allowed_part(0, LENGTH))


def test_what_has_ended():
    assert AUTOMATON.endings == {1 << 4: 3}
    legal = LegalTokens(AUTOMATON, torch.full((2, LENGTH), UNKNOWN))
    for i, column in enumerate(torch.tensor([[2, 2], [0, 0], [3, 3]])):
        assert i == 0 or legal.ended(i) is None
        legal.place(i, column)
    assert legal.ended(3).tolist() == [3, 3]
    assert count_automaton(torch.tensor([1, 2]), 3).endings == {1 << 4: 3}
