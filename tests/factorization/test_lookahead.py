"""Guessing tokens and checking them gives the sample of token by token, in no more calls."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch

from anyorder.factorization import UNKNOWN, Categorical, Request
from anyorder.factorization.categorical import uniforms
from anyorder.factorization.constraint import count_automaton
from anyorder.factorization.guidance import Guided
from anyorder.factorization.point_estimates import median
from anyorder.testing.probes import ROWS, assert_follows, generator, network_for, observations, ordinal_heads
from anyorder.testing.toy import TabularNetwork, context

from .families import family

LENGTH, VOCAB = 10, 7
MIXTURE = {"orders": "fixed", "k": 3, "jitter": "uniform", "ensemble": True}
ORDERS = {
    "left_to_right": {},
    "mixture": MIXTURE,
    "random": {"orders": "random", "ensemble": True},
    "no_targets": {"orders": "fixed", "k": 2, "target_positions": False},
}
GRAMMAR = count_automaton(torch.tensor([1, 1, 2, 3, 1]), total=6)  # END is token 5, PAD token 6


def sampled(options, network, seen, request, lookahead):
    """Return a sample and the draw that comes after it."""
    source = generator(4)
    request = dataclasses.replace(request, generator=source)
    sample = family("autoregressive", lookahead=lookahead, **options).sample(network, seen, request)
    return sample, float(uniforms((1,), source))


def assert_same(options, network, seen, request, lookahead):
    """Compare a sample with that of token by token, and return both."""
    one, after_one = sampled(options, network, seen, request, 1)
    many, after_many = sampled(options, network, seen, request, lookahead)
    assert torch.equal(one.chunk, many.chunk)
    torch.testing.assert_close(one.log_prob, many.log_prob, rtol=0, atol=1e-9)
    assert after_one == after_many
    assert many.calls <= one.calls
    return one, many


@pytest.mark.parametrize("heads", [nullcontext, ordinal_heads])
@pytest.mark.parametrize(("temperature", "nucleus"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.8)])
@pytest.mark.parametrize("orders", ORDERS)
def test_the_sample_is_that_of_token_by_token(orders, temperature, nucleus, heads):
    options = ORDERS[orders]
    known = torch.full((3, LENGTH), UNKNOWN)
    known[:, :2] = torch.tensor([3, 1])
    with heads():
        network = network_for(family("autoregressive", **options), LENGTH, VOCAB, seed=len(orders))
    for rows, constraint, lookahead in ((1, None, 3), (3, GRAMMAR, 4), (3, None, 99), (1, GRAMMAR, 99)):
        given = None if options is MIXTURE else known[:rows]
        for frozen in (None, given):
            request = Request(generator(), temperature, nucleus, constraint, frozen)
            assert_same(options, network, observations(rows), request, lookahead)


@pytest.mark.parametrize("constraint", [None, GRAMMAR])
def test_a_point_of_each_law_is_taken_alike(constraint):
    with ordinal_heads():
        network = network_for(family("autoregressive"), LENGTH, VOCAB)
    requests = [Request(generator(), 0.0, constraint=constraint, point=point) for point in (median, None)]
    by_median, by_mode = (assert_same({}, network, observations(20), request, 99)[0] for request in requests)
    assert not torch.equal(by_median.chunk, by_mode.chunk)


def test_where_guided_too():
    made = family("autoregressive")
    network = Guided(network_for(made, LENGTH, VOCAB), 1.5, 2)
    assert_same({}, network, observations(3), Request(generator()), 99)


class Apart:
    """A network that answers each target alike, whatever it sees, and remembers which slots it was asked."""

    length, vocab_size, levels = LENGTH, VOCAB, None

    def __init__(self):
        self.asked = []

    def prefill(self, context):
        return None

    def __call__(self, slots, cache, visible=None, keep=None):
        self.asked.append((slots.targets[0].tolist(), keep))
        noise = torch.randn(LENGTH, VOCAB, generator=generator(1), dtype=torch.float64)
        return Categorical(noise[slots.targets]), None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_that_do_not_depend_on_each_other_take_two_calls(temperature):
    network = Apart()
    _, many = assert_same({}, network, context(1), Request(generator(), temperature), 99)
    assert many.calls == 2
    assert network.asked[-2:] == [(list(range(LENGTH)), 1), (list(range(1, LENGTH)), 1)]
    assert many.slots == 2 * LENGTH - 1


def test_known_tokens_are_guessed_right():
    network = Apart()
    known = torch.randint(VOCAB, (1, LENGTH), generator=generator(2))
    sample, _ = sampled({}, network, context(1), Request(generator(), known=known), 99)
    assert (sample.calls, float(sample.log_prob)) == (1, 0.0)
    assert torch.equal(sample.chunk, known)


@pytest.mark.parametrize("orders", ["left_to_right", "random"])
def test_the_law_is_the_joint(orders):
    network = TabularNetwork(3, 3, seed=5)
    made = family("autoregressive", lookahead=3, **ORDERS[orders])
    sample = made.sample(network, context(ROWS), Request(generator(6)))
    assert_follows(sample.chunk, network.log_joint(network.codes).exp(), network.codes, "lookahead")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_in_float32_tokens_differ_at_near_ties_alone(temperature):
    """A matrix product of many rows rounds otherwise than one of a single row; that is all that may change a token."""
    differing = 0
    for seed in range(20):
        network = network_for(family("autoregressive"), LENGTH, VOCAB, seed=seed).float()
        seen = observations(4, seed).float()
        one, many = (sampled({}, network, seen, Request(generator(), temperature), ahead)[0] for ahead in (1, 99))
        differing += int((one.chunk != many.chunk).any(1).sum())
    assert differing <= 1
