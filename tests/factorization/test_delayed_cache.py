"""Keys and values of revealed tokens, kept between full passes of unmasking."""

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN, Request
from anyorder.factorization.constraint import count_automaton
from anyorder.factorization.delayed_cache import DelayedCache
from anyorder.factorization.slots import in_place_slots
from anyorder.networks import SlotNetwork, TransformerConfig
from anyorder.testing.probes import generator

from .families import family

LENGTH, VOCAB, WIDTH, ROWS = 10, 7, 16, 4
GRAMMAR = count_automaton(torch.tensor([1, 1, 2, 3, 1]), total=6)  # END is token 5, PAD token 6
SAMPLERS = [
    {"sampler": "left_to_right"},
    {"sampler": "first_hitting"},
    {"sampler": "ancestral", "steps": 5},
    {"sampler": "confidence", "steps": 4},
    {"sampler": "threshold", "threshold": 0.3},
]


def network(depth):
    torch.manual_seed(depth)
    made = SlotNetwork(TransformerConfig(WIDTH, depth, 2).build(), LENGTH, VOCAB).double().eval()
    torch.nn.init.normal_(made.token_embedding.weight)
    return made


def seen():
    return torch.randn(ROWS, 3, WIDTH, generator=generator(9)).double()


def sample(made, options, refresh, **request):
    asked = Request(generator(3), **request)
    return family("masked_diffusion", refresh=refresh, **options).sample(made, seen(), asked)


@torch.no_grad()
@pytest.mark.parametrize("options", SAMPLERS, ids=lambda options: options["sampler"])
@pytest.mark.parametrize("refresh", [2, 3, 99])
def test_it_is_exact_for_networks_of_one_block(options, refresh):
    """Their keys and values know no slot but their own, so that none is ever out of date."""
    made = network(depth=1)
    known = torch.full((ROWS, LENGTH), UNKNOWN)
    known[:, 2], known[0, 5] = 3, 1  # not as many in each row
    for request in ({}, {"known": known}, {"constraint": GRAMMAR}):
        whole, kept = (sample(made, options, each, **request) for each in (1, refresh))
        assert torch.equal(whole.chunk, kept.chunk)
        torch.testing.assert_close(whole.log_prob, kept.log_prob, rtol=0, atol=1e-10)
        assert whole.calls == kept.calls
        # A sampler of two calls has nothing to keep: a full pass, and one that first sees what was revealed.
        assert kept.slots < whole.slots or kept.calls < 4


@torch.no_grad()
def test_a_full_pass_forgets_what_was_kept():
    made = network(depth=3)
    cache = DelayedCache(made, seen(), refresh=3)
    code = torch.full((ROWS, LENGTH), UNKNOWN)
    apart = []
    for step in range(7):
        found = cache.ask(code)
        plain, _ = made(in_place_slots(made, code), made.prefill(seen()))
        masked = code < 0
        apart.append(float((found.logits - plain.logits)[masked].abs().max()))
        code[:, step] = torch.arange(ROWS) % VOCAB
    # Nothing is kept before a token was seen revealed, in the second call.
    exact = [number for number, error in enumerate(apart) if error < 1e-10]
    assert exact == [0, 1, 3, 6]
    assert max(apart) > 1e-4


@torch.no_grad()
def test_only_what_is_new_or_masked_is_computed():
    made = network(depth=2)
    whole, kept = (sample(made, {}, refresh) for refresh in (1, 99))
    assert whole.slots == LENGTH * LENGTH
    # The first two calls see no token that was seen revealed before; then one slot less each.
    assert kept.slots == LENGTH + sum(range(2, LENGTH + 1))


def test_a_sampler_that_takes_tokens_back_keeps_none():
    with pytest.raises(ConfigError, match="refresh: 2 given, allowed: 1 with sampler=remasking"):
        family("masked_diffusion", sampler="remasking", refresh=2)


def test_it_is_said_to_be_an_approximation():
    exact, kept = (family("masked_diffusion", sampler="first_hitting", refresh=each) for each in (1, 2))
    assert (exact.simulates, kept.simulates) == (True, False)
