"""Families that become each other at the ends of their settings: equal losses on equal weights."""

import pytest
import torch

from anyorder.factorization import Request, Slots
from anyorder.factorization.blocks import score_blocks, split
from anyorder.factorization.chain import Queries, shifted_slots
from anyorder.networks import SlotNetwork, TransformerConfig
from anyorder.testing.probes import generator, observations
from anyorder.testing.toy import TabularNetwork, context

from .families import family

LENGTH, VOCAB, WIDTH = 6, 7, 16


def network(levels=(1,) * LENGTH, depth=2):
    torch.manual_seed(0)
    return SlotNetwork(TransformerConfig(WIDTH, depth, 2).build(), LENGTH, VOCAB, levels).double().eval()


TOKENS = torch.randint(VOCAB, (8, LENGTH), generator=generator(1))


def loss(name, levels=(1,) * LENGTH, **options):
    return family(name, **options).loss(network(levels), TOKENS, observations(8), generator=generator(2))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoregressive", {"orders": "fixed", "k": 1, "lookahead": 1}),
        ("chunked", {"sizes": [1]}),
        ("chunked", {"sizes": [1], "joint": False}),
        ("block_diffusion", {"block_size": 1}),
        ("next_scale", {}),
        ("next_frequency", {}),
    ],
)
def test_one_token_at_a_time_is_autoregression(name, options):
    torch.testing.assert_close(loss(name, **options), loss("autoregressive"), rtol=0, atol=1e-12)
    ours, plain = family(name, **options), family("autoregressive")
    drawn = ours.sample(network(), observations(5), Request(generator(3)))
    assert torch.equal(drawn.chunk, plain.sample(network(), observations(5), Request(generator(3))).chunk)
    assert (drawn.calls, drawn.slots) == (LENGTH, LENGTH)


def test_one_block_is_masked_diffusion():
    torch.testing.assert_close(loss("block_diffusion", block_size=LENGTH), loss("masked_diffusion"), rtol=0, atol=1e-12)
    for sampler in ("left_to_right", "ancestral", "confidence", "first_hitting", "remasking"):
        draws = [
            family(name, sampler=sampler, steps=4, **options).sample(network(), observations(5), Request(generator(3)))
            for name, options in (("block_diffusion", {"block_size": LENGTH}), ("masked_diffusion", {}))
        ]
        assert torch.equal(draws[0].chunk, draws[1].chunk)


def test_queries_of_a_joint_chunk_see_each_other():
    joint, apart = loss("chunked", sizes=[3]), loss("chunked", sizes=[3], joint=False)
    assert (joint - apart).abs().min() > 1e-6


def test_one_joint_chunk_is_one_shot():
    everything = torch.ones_like(TOKENS, dtype=torch.bool)
    cache = network().prefill(observations(8))
    one_shot = -family("masked_diffusion").masked_scores(network(), TOKENS, cache, everything).sum(-1)
    torch.testing.assert_close(loss("chunked", sizes=[LENGTH]), one_shot, rtol=0, atol=1e-12)
    one_level = loss("next_scale", levels=(LENGTH,))
    torch.testing.assert_close(one_level, one_shot, rtol=0, atol=1e-12)
    assert not torch.allclose(loss("independent"), one_shot)  # nothing attends to anything


def test_block_diffusion_that_shows_nothing_is_chunked_autoregression():
    blocks = split((2, 3, 1), LENGTH)
    cache = network().prefill(observations(8))
    scores = score_blocks(network(), TOKENS, cache, blocks).sum(-1)
    torch.testing.assert_close(loss("chunked", sizes=[2, 3, 1]), -scores, rtol=0, atol=1e-12)


def test_every_exact_family_agrees_on_a_tabular_joint_token_by_token():
    tabular = TabularNetwork(4, 3, perturb=0.6, levels=(1, 1, 1, 1))
    rows = context(len(tabular.codes))
    plain = family("autoregressive").token_log_probs(tabular, tabular.codes, rows, generator=generator())
    for name, options in (("chunked", {"sizes": [1]}), ("next_scale", {}), ("block_diffusion", {"block_size": 1})):
        scores = family(name, **options).token_log_probs(tabular, tabular.codes, rows, generator=generator(), samples=2)
        torch.testing.assert_close(scores, plain, rtol=0, atol=1e-12)
    order = torch.arange(4).expand_as(tabular.codes)
    chain = family("masked_diffusion").order_log_probs(tabular, tabular.codes, rows, order)
    torch.testing.assert_close(chain, plain, rtol=0, atol=1e-12)


def test_queries_are_those_of_blocks_whose_tokens_do_not_see_each_other():
    # In one layer, where what carriers see of each other does not reach the queries: the first token of each block.
    shallow, cache = network(depth=1), network(depth=1).prefill(observations(8))
    scores = score_blocks(shallow, TOKENS, cache, split((2, 2, 2), LENGTH), joint=False)
    ours = family("autoregressive", queries=True)
    asked = ours.token_log_probs(shallow, TOKENS, observations(8), generator=generator())
    torch.testing.assert_close(asked[:, ::2], scores[:, ::2], rtol=0, atol=1e-12)
    assert not torch.allclose(asked[:, 1::2], scores[:, 1::2])


def test_the_first_query_knows_nothing_as_one_token_of_masked_diffusion():
    order = torch.tensor([[3, 0, 5, 1, 4, 2]]).expand(8, -1)
    answer = Queries(network(), observations(8), order).ask(TOKENS, 0, 1)
    alone, _ = network()(
        Slots(*(torch.full((8, 1), value) for value in (VOCAB, 3, 3))), network().prefill(observations(8))
    )
    torch.testing.assert_close(answer.logits, alone.logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("orders", ["left_to_right", "random"])
def test_queries_write_the_same_joint_as_shifted_slots(orders):
    tabular = TabularNetwork(4, 3, perturb=0.6)
    rows = context(len(tabular.codes))
    order = torch.tensor([2, 0, 3, 1] if orders == "random" else [0, 1, 2, 3]).expand_as(tabular.codes)
    shifted, queries = (family("autoregressive", orders=orders, queries=asks) for asks in (False, True))
    plain = shifted.order_log_probs(tabular, tabular.codes, rows, order)
    torch.testing.assert_close(queries.order_log_probs(tabular, tabular.codes, rows, order), plain, rtol=0, atol=1e-12)
    drawn = [made.sample(tabular, context(50), Request(generator(3))) for made in (shifted, queries)]
    assert torch.equal(drawn[0].chunk, drawn[1].chunk)
    assert [(sample.calls, sample.slots) for sample in drawn] == [(4, 4), (4, 7)]


def test_an_any_order_network_scores_any_given_order():
    order = torch.tensor([[3, 0, 5, 1, 4, 2]]).expand(8, -1)
    random = family("autoregressive", orders="random")
    scores = random.order_log_probs(network(), TOKENS, observations(8), order)
    drawn = random.order_log_probs(network(), TOKENS, observations(8), torch.arange(LENGTH).expand(8, -1))
    assert not torch.allclose(scores.sum(-1), drawn.sum(-1))
    tabular = TabularNetwork(4, 3)  # consistent: every order has one likelihood
    rows = context(len(tabular.codes))
    for permutation in ([2, 0, 3, 1], [3, 2, 1, 0]):
        order = torch.tensor(permutation).expand_as(tabular.codes)
        for name, options in (("autoregressive", {"orders": "random"}), ("masked_diffusion", {})):
            total = family(name, **options).order_log_probs(tabular, tabular.codes, rows, order).sum(-1)
            torch.testing.assert_close(total, tabular.log_joint(tabular.codes), rtol=0, atol=1e-12)


def test_the_papers_order_vector():
    # arXiv 2507.15857's code: pi = [2,0,1,4,5,3] -> inputs [0,3,1,2,5,6], labels [3,1,2,5,6,4]; token 0 is our START.
    pi = torch.tensor([[2, 0, 1, 4, 5, 3]])
    tokens = torch.arange(6).unsqueeze(0)  # our token i is the paper's i + 1
    slots = shifted_slots(network(), tokens, pi)
    start = VOCAB + 1
    assert slots.tokens[0].tolist() == [start, *(t - 1 for t in [3, 1, 2, 5, 6])]
    assert [t + 1 for t in tokens.gather(1, pi)[0].tolist()] == [3, 1, 2, 5, 6, 4]
    assert slots.positions[0].tolist() == [LENGTH, 2, 0, 1, 4, 5]
    assert slots.targets[0].tolist() == pi[0].tolist()
    assert shifted_slots(network(), tokens, pi, target_positions=False).targets[0].tolist() == [LENGTH] * 6
