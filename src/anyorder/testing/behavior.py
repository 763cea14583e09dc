"""Checks of how a factorization behaves: what it keeps, refuses, costs and repeats."""

from typing import Any

import torch

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization import UNKNOWN, Factorization, Request, TokenFactorization
from anyorder.testing.probes import (
    Counting,
    Spoiled,
    check,
    chunks_for,
    exactly_one_two,
    generator,
    network_for,
    observations,
    scores,
)


@check(lambda family: family.discrete and family.infills is not None)
def known_tokens_never_change(family: Factorization) -> None:
    """A frozen first token, another one in each row; and anywhere, where the family can."""
    network, seen = network_for(family), observations(8)
    known = torch.full((8, 5), UNKNOWN)
    known[:, 0] = torch.arange(8) % 7
    if family.infills in ("any", "approximate"):
        known[:4, 3] = 2
    chunk = family.sample(network, seen, Request(generator(1), known=known)).chunk
    assert bool(((known < 0) | (chunk == known)).all()), "a known token changed"
    whole = chunks_for(family, 8)
    chunk = family.sample(network, seen, Request(generator(1), known=whole)).chunk
    assert torch.equal(chunk, whole), "a code that is all known changed"


@check(lambda family: scores(family) and family.infills is None)
def known_tokens_are_refused(family: TokenFactorization) -> None:
    """A family that cannot condition on given tokens says so instead of trying."""
    known = torch.full((4, 5), UNKNOWN)
    known[:, 0] = 2
    for seed in range(8):
        try:
            family.sample(network_for(family), observations(4), Request(generator(seed), known=known))
        except ConfigError:
            continue
        raise AssertionError("known tokens were taken")


@check(lambda family: family.discrete)
def bad_requests_are_refused(family: Factorization) -> None:
    """Tokens outside the vocabulary, wrong shapes, constraints that cannot be met, senseless temperatures."""
    network, seen = network_for(family), observations(2)
    outside, twice = torch.full((2, 5), UNKNOWN), torch.full((2, 5), UNKNOWN)
    outside[0, 0] = 7
    twice[:, :2] = 2
    bad: dict[str, dict[str, Any]] = {
        "a token outside the vocabulary": {"known": outside},
        "a code of the wrong length": {"known": outside[:, :4].clamp_max(0)},
        "values for tokens": {"known": outside.double().clamp_max(0)},
        "an impossible constraint": {"known": twice, "constraint": exactly_one_two()},
    }
    for what, settings in bad.items():
        try:
            family.sample(network, seen, Request(generator(), **settings))
        except ConfigError:
            continue
        raise AssertionError(f"{what} was not refused")


@check()
def what_is_not_finite_becomes_no_action(family: Factorization) -> None:
    """One NaN or infinity in what the network says about one row: an error that names the row, no token or value.

    From the first call on and from the last one, sampling, at temperature 0, and under a constraint.
    """
    network, seen = network_for(family), observations(3)
    calls = family.sample(network, seen, Request(generator(1))).calls
    ways: dict[str, dict[str, Any]] = {"sampled": {}}
    if family.discrete:
        ways["at temperature 0"] = {"temperature": 0.0}
        ways["under a constraint"] = {"constraint": exactly_one_two(), "nucleus": 0.9}
    for value in (float("nan"), float("inf"), -float("inf")):
        for first in {0, calls - 1}:
            for way, settings in ways.items():
                spoiled = Spoiled(network, value, row=1, call=first)
                what = f"{value} from call {first} on, {way},"
                try:
                    chunk = family.sample(spoiled, seen, Request(generator(1), **settings)).chunk
                    # A step may reveal nothing, and then makes nothing of the answer.
                    if torch.equal(chunk, family.sample(network, seen, Request(generator(1), **settings)).chunk):
                        continue
                    found = f"became {chunk[1].tolist()}"
                except NotFiniteError as error:
                    found = f"is said to be in rows {error.rows}"
                assert found == "is said to be in rows (1,)", f"{what} {found}"


@check()
def senseless_temperatures_are_refused(family: Factorization) -> None:
    """What is not a number, not finite or too small to divide by: one line, whether the family uses it or not."""
    network, seen = network_for(family), observations(2)
    for field, values in {
        "temperature": (float("nan"), float("inf"), -1.0, 1e-320, 1e-308, "1", True),
        "nucleus": (float("nan"), float("inf"), 0.0, -0.5, 1.5, 1e-320, "1", True),
    }.items():
        for value in values:
            settings: dict[str, Any] = {field: value}
            message = "nothing"
            try:
                family.sample(network, seen, Request(generator(), **settings))
            except ConfigError as error:
                message = str(error)
            assert message.startswith(f"{field}: {value!r} given"), f"{field}={value}: {message} was said"


@check(lambda family: family.discrete)
def constraint_admits_only_legal_codes(family: Factorization) -> None:
    """Codes with exactly one token 2, at temperatures 0 and 1, also with a known token."""
    legal = exactly_one_two()
    network, seen = network_for(family), observations(200)
    for temperature in (0.0, 1.0):
        sample = family.sample(network, seen, Request(generator(2), constraint=legal, temperature=temperature))
        assert bool(legal.accepts(sample.chunk).all()), f"illegal at temperature {temperature}"
    assert len(sample.chunk.unique(dim=0)) > 5, "the constraint leaves no variety"
    if family.infills is not None:
        known = torch.full((200, 5), UNKNOWN)
        known[::2, 0], known[1::2, 0] = 2, 1
        chunk = family.sample(network, seen, Request(generator(3), constraint=legal, known=known)).chunk
        assert bool(legal.accepts(chunk).all()), "illegal with a known token"
        assert bool((chunk[:, 0] == known[:, 0]).all()), "a known token changed under the constraint"


@check()
def same_seed_same_sample(family: Factorization) -> None:
    """And the same loss."""
    network, seen, chunk = network_for(family), observations(4), chunks_for(family, 4)
    draws = [family.sample(network, seen, Request(generator(7))).chunk for _ in range(2)]
    assert torch.equal(*draws), "two samples from one seed differ"
    losses = [family.loss(network, chunk, seen, generator=generator(7)) for _ in range(2)]
    assert torch.equal(*losses), "two losses from one seed differ"


@check()
def another_seed_another_sample_unless_deterministic(family: Factorization) -> None:
    """Whoever asks for several samples relies on what the family declares."""
    network, seen = network_for(family), observations(20)
    one, other = (family.sample(network, seen, Request(generator(seed))).chunk for seed in (7, 8))
    assert torch.equal(one, other) == family.deterministic, f"deterministic is declared {family.deterministic}"


@check()
def rows_do_not_touch_each_other(family: Factorization) -> None:
    """Another neighbour in the batch leaves a row's loss, score and sample as they were."""
    network, chunk = network_for(family), chunks_for(family, 3)
    seen, other = observations(3), torch.cat([observations(1), observations(2, seed=5)])
    mixed = torch.cat([chunk[:1], chunks_for(family, 2, seed=6)])
    for name, call in {
        "loss": lambda c, o: family.loss(network, c, o, generator=generator(1)),
        "sample": lambda c, o: family.sample(network, o, Request(generator(1))).chunk.double(),
        "score": lambda c, o: (
            family.log_prob(network, c, o, generator=generator(1), samples=4).value
            if isinstance(family, TokenFactorization)
            else torch.zeros(1)
        ),
    }.items():
        with torch.no_grad():
            off = float((call(chunk, seen)[0] - call(mixed, other)[0]).abs().max())
        assert off < 1e-10, f"a neighbour changed a row's {name} by {off:.1e}"


@check()
def costs_what_it_says(family: Factorization) -> None:
    """``Sample.calls`` and ``Sample.slots`` are the calls made, and ``calls`` is the most it makes."""
    network = Counting(network_for(family))
    sample = family.sample(network, observations(3), Request(generator(4)))
    assert (sample.calls, sample.slots) == (network.calls, network.slots), "calls or slots are miscounted"
    most = family.calls(5)
    assert 1 <= sample.calls <= most, f"{sample.calls} calls, declared at most {most}"


@check()
def loss_reaches_every_parameter(family: Factorization) -> None:
    """One loss per row, and no weight without a gradient."""
    network = network_for(family).train()
    loss = family.loss(network, chunks_for(family, 16), observations(16), generator=generator(3))
    assert loss.shape == (16,), f"loss of shape {tuple(loss.shape)}"
    loss.sum().backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A family that feeds no values and no times, as regression does, leaves those inputs idle.
    left = [n for n in silent if family.draws_tokens or not n.startswith(("value_in", "time_mlp"))]
    assert not left, f"no gradient reaches {left}"


@check(lambda family: not family.discrete)
def known_values_never_change(family: Factorization) -> None:
    """The first step frozen, as the executed part of the chunk before."""
    network, known = network_for(family), torch.full((4, 5, 2), torch.nan, dtype=torch.float64)
    known[:, 0] = 0.25
    chunk = family.sample(network, observations(4), Request(generator(5), known=known)).chunk
    assert bool((chunk[:, 0] == 0.25).all()), "a known value changed"
    assert bool(chunk.isfinite().all()), "values that are not finite"
