"""The pieces that families are made of, each against its own formula."""

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN
from anyorder.factorization.autoregressive import hide_past
from anyorder.factorization.categorical import uniforms
from anyorder.factorization.orders import AnnealedOrders, FixedOrders, known_first
from anyorder.factorization.schedules import SCHEDULES
from anyorder.testing.probes import Counting, generator, network_for, observations
from anyorder.testing.toy import TabularNetwork, context

from .families import family


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_go_from_nothing_to_everything_with_their_slope(name):
    schedule = SCHEDULES[name]
    torch.testing.assert_close(
        schedule.masked(torch.tensor([0.0, 1.0]).double()), torch.tensor([0.0, 1.0]).double()
    )
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    masked = schedule.masked(t)
    assert (masked.diff() > 0).all()
    (slope,) = torch.autograd.grad(masked.sum(), t)
    torch.testing.assert_close(schedule.slope(t.detach()), slope)


def test_schedules_differ_in_the_middle():
    half = torch.tensor(0.5, dtype=torch.float64)
    values = {name: round(float(schedule.masked(half)), 4) for name, schedule in SCHEDULES.items()}
    assert values == {"linear": 0.5, "cosine": 0.2929, "polynomial": 0.25}


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
        shuffled = (orders.at(progress).draw(4000, 8, generator(2)) != identity).any(1).double().mean()
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
    sample = made.sample(network_for(made), observations(64), generator=generator())
    assert sample.forwards == calls
    # Levels are the tokenizer's, so a family over them promises a bound.
    assert made.forwards(5) == (5 if made.needs_levels else calls)


def test_refusals_name_the_field_and_what_is_allowed():
    network = network_for(family("autoregressive"))
    known = torch.tensor([[UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN]])
    allowed = {
        "autoregressive": "a prefix of the order, or random orders",
        "chunked": "a prefix of the blocks",
    }
    for name, words in allowed.items():
        with pytest.raises(ConfigError) as error:
            family(name, **({"sizes": [2]} if name == "chunked" else {})).sample(
                network, observations(1), generator=generator(), known=known
            )
        assert str(error.value) == f"known: 'positions with gaps' given, allowed: {words}"
    network.levels = None
    for name, meaning, example in (
        ("next_frequency", "frequencies", "dct"),
        ("next_scale", "scales", "multiscale_vq"),
    ):
        with pytest.raises(ConfigError) as error:
            family(name).check(network)
        assert str(error.value) == (
            "tokenizer: 'a code without levels' given, allowed: "
            f"a tokenizer whose code has {meaning} as levels, such as {example}"
        )


def test_score_entropy_at_temperature_zero_takes_the_loudest_position_first():
    network = TabularNetwork(3, 3, seed=6, perturb=0.8)
    sample = family("score_entropy").sample(network, context(2), generator=generator(1), temperature=0.0)
    again = family("score_entropy").sample(network, context(2), generator=generator(2), temperature=0.0)
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
    sample = made.sample(network, seen, generator=generator(1), known=known)
    assert (sample.forwards, sample.slots) == (network.calls, network.slots)
    other = known.clone()
    other[:, 1] = 6
    changed = made.sample(network, seen, generator=generator(1), known=other)
    assert not torch.equal(changed.log_prob, sample.log_prob)


def test_uniform_diffusion_at_temperature_zero_takes_the_likeliest_tokens():
    made = family("uniform_diffusion", steps=1)
    network, seen = network_for(made), observations(6)
    start = (uniforms((6, 5), generator(3)) * 7).long()
    logits = made.ask(network, start, seen, torch.ones(6, dtype=torch.int64))
    sample = made.sample(network, seen, generator=generator(3), temperature=0.0)
    assert torch.equal(sample.chunk, logits.argmax(-1))
