"""Likelihoods, bounds and samplers against full enumeration of toy joints."""

import itertools
import math

import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import UNKNOWN, Categorical, Draft, Request, TokenAutomaton
from anyorder.factorization.categorical import probabilities
from anyorder.factorization.orders import AnnealedOrders, FixedOrders
from anyorder.factorization.samplers import Remasking
from anyorder.factorization.transitions import tables_for
from anyorder.factorization.unmasking import Look
from anyorder.testing.probes import ROWS, assert_follows, generator, network_for, observations
from anyorder.testing.toy import TabularNetwork, context, order_nll

from .families import family

LENGTH, VOCAB = 3, 3


def all_orders(network, code):
    return torch.tensor([order_nll(network, code, order) for order in itertools.permutations(range(len(code)))])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoregressive", {}),
        ("autoregressive", {"orders": "fixed", "k": 6, "ensemble": True, "jitter": "uniform"}),
        ("autoregressive", {"orders": "random", "ensemble": True}),
        ("masked_diffusion", {}),
        ("block_diffusion", {"block_size": 2}),
        ("score_entropy", {}),
    ],
)
def test_consistent_conditionals_have_one_likelihood_in_every_family(name, options):
    network = TabularNetwork(LENGTH, VOCAB)
    rows = context(len(network.codes))
    made = family(name, **options)
    estimate = made.log_prob(network, network.codes, rows, generator=generator(), samples=64)
    truth = network.log_joint(network.codes)
    if made.exact:
        torch.testing.assert_close(estimate.value, truth, rtol=0, atol=1e-12)
    z = (estimate.value - truth).sum() / estimate.standard_error.square().sum().sqrt().clamp_min(1e-12)
    assert abs(z) < 4


def test_any_order_bound_is_the_mean_over_all_orders():
    length = 4
    network = TabularNetwork(length, VOCAB, seed=2, perturb=0.7)
    masked = family("masked_diffusion")
    for code in network.codes[[0, 17, 42]]:
        levels = []
        for k in range(1, length + 1):
            masks = torch.tensor(
                [[i in subset for i in range(length)] for subset in itertools.combinations(range(length), k)]
            )
            codes = code.expand(len(masks), length)
            cache = network.prefill(context(len(masks)))
            levels.append(masked.masked_error(network, codes, cache, masks).mean())
        bound = float(torch.stack(levels).mean())
        assert math.isclose(bound, float(all_orders(network, code).double().mean()), abs_tol=1e-6)
        exact = sum(order_nll(network, code, o) for o in itertools.permutations(range(length)))
        assert math.isclose(bound, exact / math.factorial(length), abs_tol=1e-12)


def test_a_mixture_of_orders_is_the_mean_of_their_likelihoods():
    network = TabularNetwork(LENGTH, VOCAB, seed=2, perturb=0.7)
    orders = FixedOrders(3, local=False).every(LENGTH)
    made = family("autoregressive", orders="fixed", k=3, ensemble=True, jitter="uniform")
    rows = context(len(network.codes))
    value = made.log_prob(network, network.codes, rows, generator=generator()).value
    each = torch.tensor(
        [[order_nll(network, code, o.tolist()) for o in orders] for code in network.codes], dtype=torch.float64
    )
    torch.testing.assert_close(value, (-each).exp().mean(1).log(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "polynomial"])
def test_bernoulli_loss_is_the_same_bound_but_for_its_cutoff(schedule):
    network = TabularNetwork(LENGTH, VOCAB, seed=3, perturb=0.5)
    code = network.codes[5]
    draws = family("masked_diffusion", loss="bernoulli", schedule=schedule).loss(
        network, code.expand(20_000, -1), context(20_000), generator=generator(4)
    )
    difference = float(draws.mean() - all_orders(network, code).mean())
    assert abs(difference) < 4 * float(draws.std()) / 20_000**0.5 + 0.005


def test_stratified_exact_counts_are_three_times_quieter_than_independent_times():
    network = TabularNetwork(4, VOCAB, equal=0.96)
    code = network.codes[40:41]
    masked = family("masked_diffusion")
    quiet = torch.stack(
        [masked.log_prob(network, code, context(1), generator=generator(s), samples=32).value for s in range(60)]
    )
    bernoulli = family("masked_diffusion", loss="bernoulli")
    # One row a call leaves nothing to stratify over: independent times.
    loud = []
    for s in range(60):
        source = generator(1000 + s)
        draws = [bernoulli.loss(network, code, context(1), generator=source) for _ in range(32)]
        loud.append(torch.stack(draws).mean())
    assert quiet.std() * 3 < torch.stack(loud).std()


@pytest.mark.parametrize("sampler", ["ancestral", "remasking"])
def test_step_samplers_converge_to_the_joint(sampler):
    network = TabularNetwork(LENGTH, VOCAB, seed=5)
    made = family("masked_diffusion", sampler=sampler, steps=60, remask_rate=0.02)
    sample = made.sample(network, context(1500), Request(generator(6)))
    assert_follows(sample.chunk, network.log_joint(network.codes).exp(), network.codes, sampler)


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
def test_remasking_keeps_the_share_of_masks_on_schedule(rate):
    sampler = Remasking(10, rate=rate)
    masked = torch.ones(20_000, 1, dtype=torch.bool)
    source = generator(1)
    for step in range(10):
        share = float(masked.float().mean())
        assert abs(share - (1 - step / 10)) < 0.02
        reveal = sampler.reveal(step, 10, masked, lambda: None, source)
        again = sampler.remask(step, 10, ~masked, source)
        assert step in (0, 9) or bool(again.any())
        # Capped by the rate, and by what can be shown again in time.
        most = rate if step == 0 else min(rate, (1 - (step + 1) / 10) / (step / 10))
        assert abs(float(again.sum() / (~masked).sum().clamp_min(1)) - most * (step > 0)) < 0.06
        masked = (masked & ~reveal) | again
    assert not masked.any()


def test_several_tokens_a_step_err_by_the_enumerated_amount():
    # Two steps of left to right reveal (2, 1) tokens, each step independent: exactly chunked autoregression.
    network = TabularNetwork(LENGTH, VOCAB, seed=7)
    rows = context(len(network.codes))
    law = family("chunked", sizes=[2, 1]).log_prob(network, network.codes, rows, generator=generator()).value
    assert (law.exp() - network.log_joint(network.codes).exp()).abs().sum() > 0.05
    sample = family("masked_diffusion", sampler="left_to_right", steps=2).sample(
        network, context(ROWS), Request(generator(8))
    )
    assert_follows(sample.chunk, law.exp(), network.codes, "two steps")
    assert sample.calls == 2


def score_entropy_terms(network, code, masked):
    shown = [UNKNOWN if m else int(t) for t, m in zip(code, masked, strict=True)]
    given = {p: t for p, t in enumerate(shown) if t >= 0}
    return {i: network.conditional(i, given) for i, m in enumerate(masked) if m}


def test_score_entropy_against_its_enumerated_jump_chain():
    network = TabularNetwork(LENGTH, VOCAB, seed=1, perturb=0.4)
    law = []
    bound = []
    for code in network.codes:
        total = 0.0
        for order in itertools.permutations(range(LENGTH)):
            masked, chance = [True] * LENGTH, 1.0
            for place in order:
                logits = score_entropy_terms(network, code, masked)
                rates = {i: float(row.exp().sum()) for i, row in logits.items()}
                chance *= float(logits[place].exp()[code[place]]) / sum(rates.values())
                masked[place] = False
            total += chance
        law.append(total)
        means = []
        for k in range(1, LENGTH + 1):
            terms = []
            for subset in itertools.combinations(range(LENGTH), k):
                rows = score_entropy_terms(network, code, [i in subset for i in range(LENGTH)])
                term = sum(float(row.exp().sum() - 1 - row[code[i]]) for i, row in rows.items())
                terms.append(term / k)
            means.append(sum(terms) / len(terms))
        bound.append(-sum(means))
    law, bound = torch.tensor(law, dtype=torch.float64), torch.tensor(bound, dtype=torch.float64)
    assert math.isclose(float(law.sum()), 1.0, abs_tol=1e-9)
    assert bool((bound <= law.log() + 1e-9).all())
    made = family("score_entropy")
    estimate = made.log_prob(network, network.codes, context(len(law)), generator=generator(2), samples=512)
    assert ((estimate.value - bound) / estimate.standard_error).abs().max() < 4.5
    sample = made.sample(network, context(ROWS), Request(generator(3)))
    assert_follows(sample.chunk, law, network.codes, "score entropy")


@pytest.mark.parametrize("noise", ["uniform", "gaussian"])
def test_uniform_diffusion_against_its_enumerated_chain(noise):
    network = TabularNetwork(LENGTH, VOCAB, seed=1, perturb=0.4)
    made = family("uniform_diffusion", steps=4, noise=noise)
    codes, count = network.codes, len(network.codes)
    chain = []  # chain[t - 1][x_t, x_{t-1}]
    for t in range(1, 5):
        times = torch.full((count,), t)
        clean = torch.softmax(made.ask(network, codes, context(count), times).logits, -1)
        step = made.noise.posterior(codes, clean, times)
        places = torch.arange(LENGTH)
        chain.append(torch.stack([step[:, places, code].prod(-1) for code in codes], 1))
    law = torch.full((count,), 1 / count, dtype=torch.float64)
    for step in reversed(chain):
        law = law @ step
    assert math.isclose(float(law.sum()), 1.0, abs_tol=1e-12)
    # The bound: sum over t of the mean over x_t of KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t)), and what is left at T.
    bound = -made.noise.remaining(codes, VOCAB).double().sum(-1)
    assert bool((bound < 0).all()) == (noise == "gaussian")
    for t in range(1, 5):
        keep = 1 - t / 4
        total = torch.eye(VOCAB).double() * keep + (1 - keep) / VOCAB
        if noise == "gaussian":
            total = tables_for(4, VOCAB, codes.device, torch.float64).total[t]
        for i, code in enumerate(codes):
            noised = total[code, codes].prod(-1)
            one_hot = torch.nn.functional.one_hot(code.expand(count, -1), VOCAB).double()
            times = torch.full((count,), t)
            truth = made.noise.posterior(codes, one_hot, times)
            clean = torch.softmax(made.ask(network, codes, context(count), times).logits, -1)
            model = made.noise.posterior(codes, clean, times)
            bound[i] -= (noised.unsqueeze(1) * torch.xlogy(truth, truth / model).sum(-1)).sum()
    assert bool((bound <= law.log() + 1e-9).all())
    estimate = made.log_prob(network, codes, context(count), generator=generator(2), samples=512)
    assert ((estimate.value - bound) / estimate.standard_error).abs().max() < 4.5
    sample = made.sample(network, context(ROWS), Request(generator(3)))
    assert_follows(sample.chunk, law, codes, "uniform diffusion")


def test_no_autoregressive_score_sees_its_own_token_or_a_later_one():
    made, network = family("autoregressive"), network_for(family("autoregressive"))
    tokens, seen = torch.randint(7, (1, 5), generator=generator(1)), observations(1)
    base = made.token_log_probs(network, tokens, seen, generator=generator(2))
    for i in range(5):
        changed = tokens.clone()
        changed[0, i] = (tokens[0, i] + 1) % 7
        moved = made.token_log_probs(network, changed, seen, generator=generator(2))
        assert torch.equal(moved[0, :i], base[0, :i])
        assert (moved[0, i + 1 :] != base[0, i + 1 :]).all()
    slots = made.slots(network, tokens, torch.arange(5).view(1, -1))
    vectors = network.token_embedding(slots.tokens).detach()
    jacobian = torch.autograd.functional.jacobian(lambda v: forward_from(network, v, slots, seen), vectors)
    reach = jacobian.abs().sum((2, 5))[0, :, 0] > 0
    assert torch.equal(reach, torch.ones(5, 5).bool().tril())


def test_masked_scores_see_the_shown_tokens_and_no_masked_one():
    made, network = family("masked_diffusion"), network_for(family("masked_diffusion"))
    tokens, seen = torch.randint(7, (1, 5), generator=generator(1)), observations(1)
    masked = torch.tensor([[True, False, True, False, True]])
    cache = network.prefill(seen)
    base = made.masked_scores(network, tokens, cache, masked)
    for i in range(5):
        changed = tokens.clone()
        changed[0, i] = (tokens[0, i] + 1) % 7
        moved = made.masked_scores(network, changed, cache, masked)[0] != base[0]
        own = torch.arange(5) == i
        assert torch.equal(moved, masked[0] & (own if masked[0, i] else torch.ones(5).bool()))


def forward_from(network, vectors, slots, seen):
    x = vectors + network.position_embedding(slots.positions) + network.target_embedding(slots.targets)
    visible = torch.ones(5, 5).bool().tril()
    return network.answer(network.trunk(x, network.prefill(seen), visible)[0], slots.targets).logits


@pytest.mark.parametrize("sizes", [(2, 2, 1), (5,), (1, 3, 1)])
def test_block_visibility_by_jacobian(sizes):
    from anyorder.factorization.blocks import score_blocks, split

    network = network_for(family("masked_diffusion"))
    blocks = split(sizes, 5)
    tokens, seen = torch.randint(7, (1, 5), generator=generator(1)), observations(1)
    block_of = [i for i, size in enumerate(sizes) for _ in range(size)]
    base = score_blocks(network, tokens, network.prefill(seen), blocks)
    for i in range(5):
        changed = tokens.clone()
        changed[0, i] = (tokens[0, i] + 1) % 7
        moved = score_blocks(network, changed, network.prefill(seen), blocks)
        for j in range(5):
            same = bool(torch.equal(moved[0, j], base[0, j]))
            assert same == (block_of[j] <= block_of[i] and j != i)


def test_block_sampling_with_its_cache_equals_scoring_without():
    network, seen = network_for(family("block_diffusion")), observations(4)
    made = family("block_diffusion", block_size=2, sampler="left_to_right", steps=2)
    sample = made.sample(network, seen, Request(generator(3)))
    from anyorder.factorization.blocks import score_blocks

    total = torch.zeros(4, dtype=torch.float64)
    for i in range(5):
        shown = sample.chunk.masked_fill(torch.arange(5) >= i, UNKNOWN)
        scores = score_blocks(network, sample.chunk, network.prefill(seen), made.blocks(network), shown)
        total += scores[:, i]
    torch.testing.assert_close(sample.log_prob, total, rtol=0, atol=1e-10)


def test_confidence_is_the_models_own_at_temperature_zero():
    logits = torch.tensor([[[2.0, 0.0], [0.0, 4.0]]])
    masked = torch.ones(1, 2, dtype=torch.bool)
    draft = Draft(Request(generator(), temperature=0.0), context(1), 2, 2)
    look = Look(draft, lambda part: Categorical(logits), 0, masked)
    torch.testing.assert_close(look.confidence(), logits.double().softmax(-1).amax(-1))


def test_confidence_ranks_legal_candidates_alone():
    # Token 2 may stand at one place only, and stands at the first already: the network's favourite is illegal.
    automaton = TokenAutomaton((torch.arange(3) == 2).long(), torch.tensor([[0, 1], [1, -1]]), start=0, accept=1)
    logits = torch.tensor([[[0.0, 0.0, 0.0], [1.0, 0.0, 9.0]]])
    known = torch.tensor([[2, UNKNOWN]])
    draft = Draft(Request(generator(), 0.0, constraint=automaton, known=known), context(1), 2, 3)
    look = Look(draft, lambda part: Categorical(logits), 0, torch.tensor([[False, True]]))
    wanted = torch.softmax(torch.tensor([1.0, 0.0]).double(), -1)[0]
    torch.testing.assert_close(look.confidence()[0, 1], wanted)


def test_threshold_takes_fewer_steps_where_the_network_is_sure():
    network = network_for(family("masked_diffusion"))
    sure = family("masked_diffusion", sampler="threshold", threshold=0.01)
    doubtful = family("masked_diffusion", sampler="threshold", threshold=1.0)
    assert sure.sample(network, observations(3), Request(generator())).calls == 1
    assert doubtful.sample(network, observations(3), Request(generator())).calls == 5


def test_temperature_and_nucleus_shape_the_first_token():
    network = TabularNetwork(LENGTH, VOCAB, seed=5)
    first = torch.softmax(network.conditional(0, {}), -1)
    for settings in ({"temperature": 0.5}, {"nucleus": 0.6}, {"temperature": 2.0, "nucleus": 0.9}):
        sample = family("autoregressive").sample(network, context(ROWS), Request(generator(1), **settings))
        law = probabilities(first.log(), settings.get("temperature", 1.0), settings.get("nucleus", 1.0))
        assert_follows(sample.chunk[:, :1], law, torch.arange(VOCAB).view(-1, 1), str(settings))


def test_annealed_orders_end_left_to_right():
    identity = torch.arange(6).expand(200, -1)
    orders = AnnealedOrders()
    shuffled = [
        float((orders.draw(200, 6, generator(), p) != identity).any(1).float().mean()) for p in (0.2, 0.625, 0.8)
    ]
    assert shuffled[0] > 0.95
    assert 0.3 < shuffled[1] < 0.7
    assert shuffled[2] == 0


def test_token_masking_is_off_at_evaluation():
    network, seen = network_for(family("autoregressive")), observations(3)
    tokens = torch.randint(7, (3, 5), generator=generator(1))
    masked, plain = family("autoregressive", token_masking=1.0), family("autoregressive")
    values = [f.log_prob(network, tokens, seen, generator=generator()).value for f in (masked, plain)]
    assert torch.equal(*values)
    losses = [f.loss(network, tokens, seen, generator=generator()) for f in (masked, plain)]
    assert not torch.equal(*losses)


def test_gaps_are_refused_where_they_cannot_be_conditioned_on():
    network = network_for(family("autoregressive"))
    known = torch.tensor([[UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN]])
    for name, options in (("autoregressive", {}), ("chunked", {"sizes": [2]}), ("block_diffusion", {"block_size": 2})):
        with pytest.raises(ConfigError, match="prefix"):
            family(name, **options).sample(network, observations(1), Request(generator(), known=known))
    with pytest.raises(ConfigError, match="shape"):
        family("masked_diffusion").sample(
            network, observations(1), Request(generator(), known=torch.zeros(1, 4).long())
        )


def test_levels_are_needed_for_coarse_to_fine():
    network = network_for(family("next_scale"))
    network.levels = None
    with pytest.raises(ConfigError, match="code without levels"):
        family("next_scale").loss(network, torch.zeros(1, 5).long(), observations(1), generator=generator())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("autoregressive", {"orders": "sideways"}),
        ("autoregressive", {"k": 3}),
        ("autoregressive", {"orders": "fixed", "k": 65}),
        ("autoregressive", {"orders": "random", "target_positions": False}),
        ("autoregressive", {"orders": "annealed", "ensemble": True}),
        ("autoregressive", {"token_masking": 1.5}),
        ("chunked", {"sizes": []}),
        ("masked_diffusion", {"sampler": "random"}),
        ("masked_diffusion", {"loss": "mse"}),
        ("masked_diffusion", {"schedule": "sqrt"}),
        ("masked_diffusion", {"threshold": 0.0}),
        ("block_diffusion", {"block_size": 0}),
        ("uniform_diffusion", {"steps": 0}),
        ("uniform_diffusion", {"auxiliary": -1.0}),
        ("uniform_diffusion", {"noise": "absorbing"}),
        ("gaussian_diffusion", {"scheduler": "euler"}),
        ("gaussian_diffusion", {"inference_steps": 200}),
        ("gaussian_diffusion", {"inference_steps": 60}),
        ("gaussian_diffusion", {"inference_steps": 100, "scheduler": "dpm_solver"}),
        ("gaussian_diffusion", {"prediction": "v"}),
        ("gaussian_diffusion", {"train_steps": 0}),
        ("flow_matching", {"inference_steps": 0}),
        ("analog_bits", {"inference_steps": 0}),
        ("mip", {"t": 1.0}),
        ("mip", {"weighted": 1}),
        ("regression", {"norm": "huber"}),
    ],
)
def test_bad_settings_are_refused(name, options):
    with pytest.raises(ConfigError, match="given, allowed"):
        family(name, **options)


def test_unmasking_one_by_one_reports_the_chain_rule():
    made = family("masked_diffusion", steps=5)
    network, seen = network_for(made), observations(3)
    sample = made.sample(network, seen, Request(generator(1)))
    order = torch.arange(5).expand(3, -1)
    scores = made.order_log_probs(network, sample.chunk, seen, order)
    torch.testing.assert_close(sample.log_prob, scores.sum(1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["masked_diffusion", "block_diffusion"])
def test_samplers_that_take_tokens_back_report_no_probability(name):
    for sampler, reports in (("remasking", False), ("ancestral", True)):
        made = family(name, sampler=sampler, steps=4)
        sample = made.sample(network_for(made), observations(3), Request(generator(1)))
        assert (sample.log_prob is not None) == reports


def test_annealing_reaches_the_loss():
    network, seen = network_for(family("autoregressive")), observations(4)
    tokens = torch.randint(7, (4, 5), generator=generator(1))
    plain = family("autoregressive").loss(network, tokens, seen, generator=generator(2))
    made = family("autoregressive", orders="annealed")
    losses = {}
    for progress in (0.0, 1.0):
        losses[progress] = made.loss(network, tokens, seen, generator=generator(2), progress=progress)
    assert torch.equal(losses[1.0], plain)
    assert (losses[0.0] - plain).abs().max() > 1e-6
