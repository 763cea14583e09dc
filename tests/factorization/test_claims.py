"""What known tokens and constraints condition on, said exactly, against enumeration.

The networks' conditionals fit no single joint, as those of trained any-order networks do not.
"""

import itertools

import pytest
import torch

from anyorder.factorization import LegalTokens, Request
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.testing.probes import assert_follows, generator
from anyorder.testing.toy import TabularNetwork, context

from .families import family

LENGTH, VOCAB, ROWS = 3, 3, 6000
# Exactly one token is 2.
ONE_TWO = TokenAutomaton((torch.arange(VOCAB) == 2).long(), torch.tensor([[0, 1], [1, -1]]), start=0, accept=1)
ANY_ORDER = (
    ("autoregressive", {"orders": "random", "ensemble": True}),
    ("masked_diffusion", {"sampler": "first_hitting"}),
)


def network(perturb=0.8):
    return TabularNetwork(LENGTH, VOCAB, seed=5, perturb=perturb)


def order_law(net, order, known, legal):
    """p of every code by the chain rule over the free positions in ``order``, each renormalised over what is legal."""
    law = torch.zeros(len(net.codes), dtype=torch.float64)
    for row, code in enumerate(net.codes.tolist()):
        fits = all(known.get(i, token) == token for i, token in enumerate(code))
        if not fits or code not in legal:
            continue
        given, chance = dict(known), 1.0
        for place in (i for i in order if i not in known):
            left = [c for c in legal if all(c[i] == token for i, token in given.items())]
            allowed = sorted({c[place] for c in left})
            weights = torch.softmax(net.conditional(place, given), -1)
            chance *= float(weights[code[place]] / weights[allowed].sum())
            given[place] = code[place]
        law[row] = chance
    return law


def mean_law(net, known, legal):
    """The mean over all orders of the free positions."""
    orders = list(itertools.permutations(range(LENGTH)))
    return torch.stack([order_law(net, order, known, legal) for order in orders]).mean(0)


def distance(one, other):
    return float((one - other).abs().sum() / 2)


def draw(name, options, net, known=None, constraint=None):
    rows = None
    if known:
        rows = torch.tensor([[known.get(i, -1) for i in range(LENGTH)]]).expand(ROWS, -1)
    made = family(name, **options)
    return made.sample(net, context(ROWS), Request(generator(3), known=rows, constraint=constraint)).chunk


@pytest.mark.parametrize(("name", "options"), ANY_ORDER)
def test_known_positions_are_an_order_that_begins_with_them(name, options):
    """Exact given such an order; not the conditional of the law without ``known``, unless one joint fits all."""
    every = network().codes.tolist()
    for perturb, fits in ((0.8, False), (0.0, True)):
        net = network(perturb)
        law = mean_law(net, {1: 1}, every)
        assert_follows(draw(name, options, net, {1: 1}), law, net.codes, f"{name} given the middle token")
        own = mean_law(net, {}, every) * (net.codes[:, 1] == 1)
        assert (distance(law, own / own.sum()) < 1e-9) is fits
    assert distance(law, own / own.sum()) < 1e-9


def test_a_known_prefix_is_the_conditional_of_the_models_own_law():
    """For any network: the chain rule in an order has it in its factors."""
    net = network()
    law = order_law(net, range(LENGTH), {0: 2}, net.codes.tolist())
    own = order_law(net, range(LENGTH), {}, net.codes.tolist()) * (net.codes[:, 0] == 2)
    assert distance(law, own / own.sum()) < 1e-12
    assert_follows(draw("autoregressive", {}, net, {0: 2}), law, net.codes, "left to right given the first")


@pytest.mark.parametrize("known", [{}, {1: 0}])
@pytest.mark.parametrize(("name", "options"), [("autoregressive", {}), *ANY_ORDER])
def test_a_constraint_renormalises_each_conditional(name, options, known):
    """Which is not p(x | x is legal), even where all conditionals fit one joint."""
    if name == "autoregressive" and not options and known:
        known = {0: 0}  # a prefix
    legal = LegalTokens(ONE_TWO, torch.full((1, LENGTH), -1))
    assert bool(legal.allowed(0).all())
    for perturb in (0.8, 0.0):
        net = network(perturb)
        codes = net.codes[ONE_TWO.accepts(net.codes)].tolist()
        law = mean_law(net, known, codes) if options else order_law(net, range(LENGTH), known, codes)
        assert law.sum() == pytest.approx(1)
        drawn = draw(name, options, net, known, ONE_TWO)
        assert_follows(drawn, law, net.codes, f"{name} {options} under a constraint")
        if not known:
            whole = (
                mean_law(net, {}, net.codes.tolist())
                if options
                else order_law(net, range(LENGTH), {}, net.codes.tolist())
            )
            truth = whole * ONE_TWO.accepts(net.codes)
            assert distance(law, truth / truth.sum()) > 0.02
