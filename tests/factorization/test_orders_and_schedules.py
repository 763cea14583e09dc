"""The pieces that families are made of, each against its own formula."""

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN, LegalTokens, Request
from anyorder.factorization.categorical import draw, uniforms
from anyorder.factorization.checks import check_known
from anyorder.factorization.constraint import count_automaton
from anyorder.factorization.families.autoregressive import hide_past
from anyorder.factorization.orders import AnnealedOrders, FixedOrders, known_first
from anyorder.factorization.schedules import SCHEDULES
from anyorder.factorization.slots import in_place_slots
from anyorder.testing.probes import Counting, generator, network_for, observations
from anyorder.testing.toy import ChainNetwork, TabularNetwork, context, mean_jumps

from .families import family


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_from_nothing_to_everything_with_their_slope(name):
    schedule = SCHEDULES[name]
    torch.testing.assert_close(schedule.masked(torch.tensor([0.0, 1.0]).double()), torch.tensor([0.0, 1.0]).double())
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    masked = schedule.masked(t)
    assert (masked.diff() > 0).all()
    (slope,) = torch.autograd.grad(masked.sum(), t)
    torch.testing.assert_close(schedule.slope(t.detach()), slope)


def test_schedules_differ_in_the_middle():
    half = torch.tensor(0.5, dtype=torch.float64)
    values = {name: round(float(schedule.masked(half)), 4) for name, schedule in SCHEDULES.items()}
    sine = 0.7071
    assert values == {"linear": 0.5, "maskgit": sine, "md4": sine, "cosine": 0.2929, "polynomial": 0.25}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # MaskGIT: gamma(r) = cos(pi r / 2) of the tokens are masked when a share r of the steps is done, r = 1 - t.
        ("maskgit", lambda t: torch.cos(torch.pi / 2 * (1 - t))),
        # MD4: alpha = 1 - cos(pi / 2 (1 - t)) are shown.
        ("md4", lambda t: 1 - (1 - torch.cos(torch.pi / 2 * (1 - t)))),
        # MDLM, class CosineNoise: cos(pi / 2 t) are shown.
        ("cosine", lambda t: 1 - torch.cos(torch.pi / 2 * t)),
    ],
)
def test_schedules_are_those_of_their_papers(name, published):
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(SCHEDULES[name].masked(t), published(t), rtol=0, atol=1e-12)


def test_training_and_sampling_have_schedules_of_their_own():
    made = family("masked_diffusion", loss="bernoulli", schedule="cosine", sampler="ancestral")
    assert made.sampler.schedule == made.schedule == SCHEDULES["cosine"]  # as it was before there were two
    made = family("masked_diffusion", loss="bernoulli", schedule="md4", sampling_schedule="linear", sampler="ancestral")
    assert (made.schedule, made.sampler.schedule) == (SCHEDULES["md4"], SCHEDULES["linear"])
    for sampler in ("confidence", "left_to_right", "spread"):
        made = family("masked_diffusion", sampler=sampler, schedule="cosine", steps=4)
        assert made.sampler.schedule == SCHEDULES["linear"]
    with pytest.raises(ConfigError, match=r"sampling_schedule: 'maskgitt' given.*did you mean 'maskgit'"):
        family("masked_diffusion", sampling_schedule="maskgitt")


def revealed(sampler, length, known=0):
    """How many tokens each step of a sampler that ranks reveals, the first ``known`` being given."""
    masked, counts = torch.arange(length).unsqueeze(0) >= known, []
    steps = sampler.calls(length - known)
    for step in range(steps):
        shown = sampler.reveal(step, steps, masked, lambda: torch.rand(1, length), generator())
        assert not (shown & ~masked).any()
        masked = masked & ~shown
        counts.append(int(shown.sum()))
    assert not masked.any()
    return counts


def test_ranked_samplers_reveal_the_schedules_share():
    for sampler in ("left_to_right", "confidence", "spread"):
        assert revealed(family("masked_diffusion", sampler=sampler, steps=3).sampler, 7) == [3, 2, 2]
        assert revealed(family("masked_diffusion", sampler=sampler, steps=4).sampler, 12, known=4) == [2] * 4
        assert revealed(family("masked_diffusion", sampler=sampler).sampler, 40) == [1] * 40
        # cos(pi / 8), cos(pi / 4), cos(3 pi / 8), 0 of 100 are masked after each step: 92, 70, 38, 0.
        made = family("masked_diffusion", sampler=sampler, steps=4, sampling_schedule="maskgit")
        assert revealed(made.sampler, 100) == pytest.approx([8, 22, 32, 38], abs=1)


def test_spread_reveals_between_what_is_shown():
    sampler = family("masked_diffusion", sampler="spread", steps=4).sampler
    masked, order = torch.ones(1, 16, dtype=torch.bool), []
    for step in range(4):
        shown = sampler.reveal(step, 4, masked, None, generator())
        masked = masked & ~shown
        order.append(shown[0].nonzero().flatten().tolist())
    assert order == [[0, 4, 8, 12], [2, 6, 10, 14], [1, 5, 9, 13], [3, 7, 11, 15]]


CODES = 400


def jumps(length=32, **options):
    """Mean jumps that masked diffusion draws of a chain whose conditionals are exact, and the chain's own."""
    chain = ChainNetwork(length)
    sample = family("masked_diffusion", **options).sample(chain, context(CODES), Request(generator(1)))
    return mean_jumps(sample.chunk), chain.jumps


def test_the_chains_conditionals_are_those_of_its_joint():
    chain = ChainNetwork(4, 3, 0.7)
    joint = torch.full((3, 3, 3, 3), 1 / 3, dtype=torch.float64)
    for place in range(3):
        shape = [3 if axis in (place, place + 1) else 1 for axis in range(4)]
        joint = joint * chain.step.reshape(shape)
    tokens = torch.tensor([[3, 1, 3, 2]])  # 3 is MASK
    answer, _ = chain(in_place_slots(chain, tokens.masked_fill(tokens == 3, -1)), None)
    given = joint[:, 1, :, 2]
    torch.testing.assert_close(torch.softmax(answer.logits[0, 0], -1), given.sum(1) / given.sum())
    torch.testing.assert_close(torch.softmax(answer.logits[0, 2], -1), given.sum(0) / given.sum())


def test_the_default_sampler_draws_no_neighbours_together():
    """In codes longer than 32 tokens, too: it draws the chain exactly."""
    drawn, truth = jumps(length=48)
    assert abs(drawn - truth) < 4 * (truth / CODES) ** 0.5


def test_few_steps_left_to_right_err_by_what_the_chain_says():
    """Four neighbours a call: given the last one shown they are independent."""
    drawn, _ = jumps(steps=8)
    power = [torch.linalg.matrix_power(ChainNetwork().step, j)[0] for j in range(5)]
    inside = sum(1 - float((power[j] * power[j + 1]).sum()) for j in (1, 2, 3))
    expected = 3 * (1 - 1 / 4) + 7 * (0.1 + inside)
    assert drawn == pytest.approx(expected, abs=0.6)


def test_revealing_most_at_the_end_is_better_than_at_the_start():
    """Of few steps: ``maskgit`` before ``linear`` before ``cosine``; spread positions before random ones."""
    for steps in (4, 8):
        chance = {
            name: jumps(sampler="ancestral", steps=steps, sampling_schedule=name)[0]
            for name in ("maskgit", "linear", "cosine")
        }
        # A standard error is about 0.12 jumps.
        assert chance["maskgit"] + 0.25 < chance["linear"] < chance["cosine"] - 0.6
        assert jumps(sampler="spread", steps=steps)[0] + 0.6 < chance["maskgit"]


def test_fixed_orders_follow_the_papers_jitter():
    noise = [torch.randn(32, generator=random) for random in [generator(0)] for _ in range(4)]
    place = torch.arange(32)
    local, uniform = FixedOrders(5, local=True).every(32), FixedOrders(5, local=False).every(32)
    assert torch.equal(local[0], place)
    assert torch.equal(uniform[0], place)
    for i in range(1, 5):
        assert torch.equal(local[i], torch.argsort(place + i * noise[i - 1]))
        assert torch.equal(uniform[i], torch.argsort(noise[i - 1]))
    moved = (local.argsort(1) - place).abs().double().mean(1)
    assert 0 < moved[1] < moved[4] < (uniform[1:].argsort(1) - place).abs().double().mean()
    other = FixedOrders(5, local=True, seed=1).every(32)
    assert not torch.equal(other[1:], local[1:])


def test_every_fixed_order_is_drawn_equally_often():
    orders = FixedOrders(4)
    drawn = orders.draw(4000, 8, generator(1))
    count = (drawn.unsqueeze(1) == orders.every(8)).all(2).sum(0)
    assert count.sum() == 4000
    assert ((count - 1000).abs() < 4 * (1000 * 0.75) ** 0.5).all()


def test_annealing_falls_linearly_between_its_ends():
    orders, identity = AnnealedOrders(start=0.2, end=0.6), torch.arange(8)
    for progress, share in ((0.0, 1.0), (0.2, 1.0), (0.3, 0.75), (0.5, 0.25), (0.6, 0.0), (1.0, 0.0)):
        shuffled = (orders.draw(4000, 8, generator(2), progress) != identity).any(1).double().mean()
        assert abs(shuffled - share) <= 4 * (share * (1 - share) / 4000) ** 0.5 + 1e-3
    assert torch.equal(orders.draw(5, 8, generator(2)), identity.expand(5, -1))


def test_known_positions_come_first_and_nothing_else_moves():
    order = torch.tensor([[3, 1, 0, 2], [0, 1, 2, 3], [2, 3, 1, 0]])
    known = torch.tensor([[5, -1, 0, -1], [-1, -1, -1, -1], [0, 0, 0, 0]])
    assert known_first(order, known).tolist() == [[0, 2, 3, 1], [0, 1, 2, 3], [2, 3, 1, 0]]


def test_hiding_the_past():
    length, rows = 12, 3000
    causal = torch.ones(length, length).tril().bool()
    assert torch.equal(hide_past(0.0, 2, length, generator()), causal.expand(2, -1, -1))
    visible = hide_past(1.0, rows, length, generator(3))
    assert not visible[:, ~causal].any()
    assert visible.diagonal(dim1=1, dim2=2).all()
    below = torch.ones(length, length).tril(-1).bool()
    hidden = 1 - visible[:, below].double().mean(1)
    # The rate is uniform on [0, 1] per sequence: mean 1/2, variance 1/12, plus the edges' own.
    assert abs(hidden.mean() - 0.5) < 4 * (1 / 12 / rows) ** 0.5
    assert 0.25 < hidden.std() < 0.34
    untouched = (hide_past(0.25, rows, length, generator(4)) == causal).all(2).all(1).double().mean()
    assert abs(untouched - 0.75) < 4 * (0.75 * 0.25 / rows) ** 0.5 + 0.02


@pytest.mark.parametrize(
    ("name", "options", "calls"),
    [
        ("autoregressive", {}, 5),
        ("chunked", {"sizes": [2]}, 3),
        ("chunked", {"sizes": [1, 3]}, 3),
        ("independent", {}, 1),
        ("next_scale", {}, 3),
        ("masked_diffusion", {"steps": 2}, 2),
        ("masked_diffusion", {}, 5),
        ("masked_diffusion", {"sampler": "spread"}, 5),
        ("masked_diffusion", {"sampler": "spread", "steps": 2}, 2),
        ("block_diffusion", {"block_size": 3}, 5),
        ("masked_diffusion", {"sampler": "first_hitting"}, 5),
        ("masked_diffusion", {"sampler": "confidence", "steps": 3}, 3),
        ("masked_diffusion", {"sampler": "remasking", "steps": 7}, 7),
        ("block_diffusion", {"block_size": 2, "steps": 1}, 3),
        ("block_diffusion", {"block_size": 2, "sampler": "first_hitting"}, 5),
        ("score_entropy", {}, 5),
        ("uniform_diffusion", {"steps": 4}, 4),
        ("gaussian_diffusion", {"inference_steps": 5}, 5),
        ("flow_matching", {"inference_steps": 4}, 4),
        ("analog_bits", {"inference_steps": 4}, 4),
        ("embedding_diffusion", {"inference_steps": 2}, 2),
        ("mip", {}, 2),
        ("regression", {}, 1),
    ],
)
def test_sampling_takes_exactly_so_many_calls(name, options, calls):
    made = family(name, **options)
    # Enough rows that no step of a random sampler reveals nothing in all of them, which would save its call.
    sample = made.sample(network_for(made), observations(64), Request(generator()))
    assert sample.calls == calls
    # Levels are the tokenizer's, so a family over them promises a bound.
    assert made.calls(5) == (5 if made.needs_levels else calls)


def test_refusals_name_the_field_and_what_is_allowed():
    network = network_for(family("autoregressive"))
    known = torch.tensor([[UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN]])
    allowed = {"autoregressive": "a prefix of the order, or random orders", "chunked": "a prefix of the blocks"}
    for name, words in allowed.items():
        with pytest.raises(ConfigError) as error:
            family(name, **({"sizes": [2]} if name == "chunked" else {})).sample(
                network, observations(1), Request(generator(), known=known)
            )
        assert str(error.value) == f"known: 'positions with gaps' given, allowed: {words}"
    network.levels = None
    for name, meaning, example in (("next_frequency", "frequencies", "dct"), ("next_scale", "scales", "multiscale_vq")):
        with pytest.raises(ConfigError) as error:
            family(name).check(network)
        assert str(error.value) == (
            "tokenizer: 'a code without levels' given, allowed: "
            f"a tokenizer whose code has {meaning} as levels, such as {example}"
        )


def test_score_entropy_at_temperature_zero_takes_the_loudest_position_first():
    network = TabularNetwork(3, 3, seed=6, perturb=0.8)
    sample = family("score_entropy").sample(network, context(2), Request(generator(1), temperature=0.0))
    again = family("score_entropy").sample(network, context(2), Request(generator(2), temperature=0.0))
    assert torch.equal(sample.chunk, again.chunk)
    given = {}
    while len(given) < 3:
        raw = {i: network.conditional(i, given) for i in range(3) if i not in given}
        loudest = max(raw, key=lambda i: float(raw[i].exp().sum()))
        given[loudest] = int(raw[loudest].argmax())
    assert sample.chunk[0].tolist() == [given[i] for i in range(3)]


def test_settings_reach_the_family():
    assert family("autoregressive", orders="fixed", k=3, jitter="uniform").orders == FixedOrders(3, False)
    assert family("autoregressive", orders="fixed", k=3, jitter="local").orders == FixedOrders(3, True)
    assert family("autoregressive").loss_scores is True
    assert not family("autoregressive", orders="fixed", k=3, ensemble=True).loss_scores
    assert not family("autoregressive", token_masking=0.5).loss_scores


@pytest.mark.parametrize("name", ["chunked", "block_diffusion"])
def test_a_block_that_is_known_in_full_is_read_and_counted(name):
    made = family(name, **({"sizes": [2]} if name == "chunked" else {"block_size": 2, "steps": 1}))
    network, seen = Counting(network_for(made)), observations(3)
    known = torch.full((3, 5), UNKNOWN)
    known[:, :2] = torch.tensor([[0, 1], [2, 3], [4, 5]])
    sample = made.sample(network, seen, Request(generator(1), known=known))
    assert (sample.calls, sample.slots) == (network.calls, network.slots)
    other = known.clone()
    other[:, 1] = 6
    changed = made.sample(network, seen, Request(generator(1), known=other))
    assert not torch.equal(changed.log_prob, sample.log_prob)


def test_uniform_diffusion_at_temperature_zero_takes_the_likeliest_tokens():
    made = family("uniform_diffusion", steps=1)
    network, seen = network_for(made), observations(6)
    start = (uniforms((6, 5), generator(3)) * 7).long()
    logits = made.ask(network, start, seen, torch.ones(6, dtype=torch.int64)).logits
    sample = made.sample(network, seen, Request(generator(3), temperature=0.0))
    assert torch.equal(sample.chunk, logits.argmax(-1))


def test_autoregression_stops_where_every_code_has_ended(monkeypatch):
    """The tokens, the draws and the likelihood are those of going on; the calls are those made."""
    automaton = count_automaton(torch.tensor([1, 1, 2, 3, 1]), total=6)  # END is token 5, PAD token 6
    length, made = 12, family("autoregressive", lookahead=1)
    network = Counting(network_for(made, length))
    for known in (None, torch.tensor([[3] + [UNKNOWN] * 11]).expand(7, -1)):
        found = []
        for stops in (True, False):
            with monkeypatch.context() as patch:
                if not stops:
                    patch.setattr(LegalTokens, "ended", lambda self, i: None)
                source, network.calls = generator(4), 0
                sample = made.sample(network, observations(7), Request(source, constraint=automaton, known=known))
            found.append((sample, network.calls, float(uniforms((1,), source))))
        (early, made_calls, after), (late, all_calls, after_all) = found
        assert torch.equal(early.chunk, late.chunk)
        torch.testing.assert_close(early.log_prob, late.log_prob, rtol=0, atol=1e-10)
        assert after == after_all
        longest = int((early.chunk != 6).sum(1).max())
        assert made_calls == early.calls == longest + 1 < all_calls == late.calls == length
        assert early.slots == late.slots == length


def test_blocks_of_one_token_are_scored_once():
    made = family("block_diffusion", block_size=1)
    network = Counting(network_for(made))
    score = made.log_prob(network, torch.zeros(2, 5).long(), observations(2), generator=generator(), samples=32)
    assert (made.exact, network.calls, float(score.standard_error.abs().max())) == (True, 1, 0.0)


def test_known_tokens_are_read_by_the_host_only_for_a_message(monkeypatch):
    def refuse(self):
        raise AssertionError("copied to the host")

    known = torch.full((2, 5), UNKNOWN)
    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    check_known(known, observations(2), 5, 7)


@pytest.mark.parametrize("sampler", ["left_to_right", "confidence"])
def test_only_what_is_revealed_is_drawn(sampler, monkeypatch):
    """A nucleus sorts the vocabulary of every position it is asked for."""
    asked = []

    def spy(logits, *rest):
        asked.append(logits[..., 0].numel())
        return draw(logits, *rest)

    monkeypatch.setattr("anyorder.factorization.draft.draw", spy)
    made = family("masked_diffusion", sampler=sampler)
    made.sample(network_for(made), observations(3), Request(generator(), nucleus=0.9))
    # Three rows: one token each a step; confidence looks at all that are masked, too.
    ranks = [3 * left for left in (5, 4, 3, 2, 1)] if sampler == "confidence" else []
    assert sorted(asked) == sorted([3] * 5 + ranks)
