"""The chains that discrete diffusion undoes: their matrices, their posteriors, and the bound by full enumeration."""

import itertools
import math
from contextlib import nullcontext

import pytest
import torch

from anyorder.factorization import UNKNOWN, Categorical, Request
from anyorder.factorization.categorical import uniforms
from anyorder.factorization.transitions import FLOOR, DiscretizedGaussian, Uniform, betas, gaussian_step, tables_for
from anyorder.testing.probes import chunks_for, generator, network_for, observations, ordinal_heads
from anyorder.testing.toy import TabularNetwork, context

from .families import family

CPU = torch.device("cpu")
SIZES = [(1, 2), (4, 3), (8, 50), (32, 200)]


def tables(steps, vocab, dtype=torch.float64):
    return tables_for(steps, vocab, CPU, dtype)


@pytest.mark.parametrize(("steps", "vocab"), SIZES)
def test_every_gaussian_step_is_symmetric_and_keeps_the_uniform_law(steps, vocab):
    step, total = tables(steps, vocab)
    for matrix in (*step, *total):
        torch.testing.assert_close(matrix.sum(0), torch.ones(vocab).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(matrix.sum(1), torch.ones(vocab).double(), rtol=0, atol=1e-12)
        assert bool((matrix >= 0).all())
    assert torch.equal(step, step.mT)


@pytest.mark.parametrize(("steps", "vocab"), SIZES)
def test_totals_are_the_steps_one_after_the_other(steps, vocab):
    step, total = tables(steps, vocab)
    law = torch.eye(vocab).double()
    for t in range(1, steps + 1):
        law = law @ step[t]
        torch.testing.assert_close(total[t], law, rtol=0, atol=1e-14)


@pytest.mark.parametrize(("beta", "vocab"), [(0.02, 5), (0.5, 12), (2.0, 3)])
def test_a_gaussian_step_is_the_published_formula(beta, vocab):
    scale = (vocab - 1) ** 2 * beta
    total = sum(math.exp(-4 * n**2 / scale) for n in range(-(vocab - 1), vocab))
    matrix = gaussian_step(beta, vocab)
    for i, j in itertools.product(range(vocab), repeat=2):
        others = [math.exp(-4 * (i - k) ** 2 / scale) / total for k in range(vocab) if k != i]
        expected = 1 - sum(others) if i == j else math.exp(-4 * (i - j) ** 2 / scale) / total
        assert math.isclose(float(matrix[i, j]), expected, abs_tol=2 * FLOOR)


@pytest.mark.parametrize("vocab", [3, 50, 200])
def test_one_gaussian_step_is_near_and_nearness_falls_with_distance(vocab):
    first = tables(32, vocab).step[1]
    middle = vocab // 2
    falling = first[middle, middle:].diff()
    assert bool((falling <= 0).all())
    assert bool((falling[:4] < 0).all())
    numbers = torch.arange(vocab).double()
    deviation = (first[middle] * (numbers - middle).square()).sum().sqrt()
    assert 0.4 < float(deviation) < 0.6


@pytest.mark.parametrize(("vocab", "most"), [(3, 1e-6), (50, 1e-3), (200, 5e-3), (300, 7e-3)])
def test_32_gaussian_steps_end_nearly_uniform(vocab, most):
    remaining = DiscretizedGaussian(32).remaining(torch.arange(vocab), vocab)
    end = tables(32, vocab).total[32]
    torch.testing.assert_close(remaining, (end * (end * vocab).log()).sum(-1), rtol=1e-9, atol=1e-15)
    assert 0 <= float(remaining.min()) <= float(remaining.max()) < most


def test_betas_grow_by_one_ratio_to_the_same_end():
    for steps, vocab in SIZES:
        values = torch.tensor(betas(steps, vocab), dtype=torch.float64)
        assert len(values) == steps
        assert math.isclose(float(values[-1]), 2.0)
        ratio = values[1:] / values[:-1]
        assert bool((ratio >= 1 - 1e-12).all())
        torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-9, atol=0)


@pytest.mark.parametrize("noise", [Uniform(4), DiscretizedGaussian(4)], ids=["uniform", "gaussian"])
def test_posteriors_and_draws_follow_the_chain(noise):
    """By Bayes' rule from steps alone, which are read from draws' laws: of one token over 5."""
    vocab = 5
    every = torch.arange(vocab)
    for t in range(1, 5):
        if isinstance(noise, Uniform):
            eye = torch.eye(vocab).double()
            total = [(1 - s / 4) * eye + s / 4 / vocab for s in (t - 1, t)]
            keep = (4 - t) / (5 - t)
            step = keep * eye + (1 - keep) / vocab
        else:
            step, total = tables(4, vocab).step[t], tables(4, vocab).total[t - 1 : t + 1]
        for x in range(vocab):
            joint = total[0][x].unsqueeze(1) * step  # of (x_{t-1}, x_t)
            clean = torch.nn.functional.one_hot(torch.full((vocab, 1), x), vocab).double()
            law = noise.posterior(every.unsqueeze(1), clean, torch.full((vocab,), t))[:, 0]
            torch.testing.assert_close(law, (joint / joint.sum(0)).T, rtol=0, atol=1e-12)
            rows = 20_000
            drawn = noise.noised(torch.full((rows, 1), x), torch.full((rows,), t), vocab, generator(x))
            share = torch.bincount(drawn.flatten(), minlength=vocab) / rows
            assert bool(((share - total[1][x]).abs() < 5 * (total[1][x] / rows).sqrt() + 1e-9).all())


def test_a_gaussian_answer_is_what_is_known_beside_the_noise():
    """Averaged over the informed law, the posterior is the normalized sum of q(x_{t-1}, x_t | x) r(x)."""
    noise, vocab = DiscretizedGaussian(4), 6
    r = torch.rand(vocab, generator=generator(1)).double()
    answer = Categorical(r.log().expand(vocab, 1, vocab))
    noisy = torch.arange(vocab).unsqueeze(1)
    for t in range(1, 5):
        step, before = tables(4, vocab).step[t], tables(4, vocab).total[t - 1]
        times = torch.full((vocab,), t)
        clean = torch.softmax(noise.informed(answer, noisy, times).logits, -1)
        law = noise.posterior(noisy, clean, times)[:, 0]
        expected = step.T * (r @ before)
        torch.testing.assert_close(law, expected / expected.sum(-1, keepdim=True), rtol=0, atol=1e-12)


def test_the_bound_is_that_of_all_paths():
    """One token over 3 in 3 steps: sum over every path of q log(p / q), and at the end x_T is drawn uniform."""
    network, steps, vocab = TabularNetwork(1, 3, seed=2, perturb=0.6), 3, 3
    made = family("uniform_diffusion", steps=steps, noise="gaussian")
    every = torch.arange(vocab).unsqueeze(1)
    reverse = []  # reverse[t - 1][x_t, x_{t-1}]
    for t in range(1, steps + 1):
        times = torch.full((vocab,), t)
        clean = torch.softmax(made.ask(network, every, context(vocab), times).logits, -1)
        reverse.append(made.noise.posterior(every, clean, times)[:, 0])
    step = tables(steps, vocab).step
    bound, law = [], []
    for x in range(vocab):
        terms, chances = [], []
        for path in itertools.product(range(vocab), repeat=steps):
            states = (x, *path)
            forward = math.prod(float(step[t][states[t - 1], states[t]]) for t in range(1, steps + 1))
            back = math.prod(float(reverse[t - 1][states[t], states[t - 1]]) for t in range(1, steps + 1)) / vocab
            terms.append(forward * math.log(back / forward))
            chances.append(back)
        bound.append(sum(terms))
        law.append(sum(chances))
    bound, law = torch.tensor(bound, dtype=torch.float64), torch.tensor(law, dtype=torch.float64)
    assert math.isclose(float(law.sum()), 1.0, abs_tol=1e-12)
    assert bool((bound < law.log()).all())
    # What the end still tells of the start is no rounding here.
    assert float(made.noise.remaining(every, vocab).max()) > 0.1
    rows = 20_000
    codes = every.repeat(rows, 1)
    draws = made.log_prob(network, codes, context(len(codes)), generator=generator(3), samples=1).value.view(
        rows, vocab
    )
    error = draws.std(0) / rows**0.5
    assert float(error.max()) < 0.05
    assert bool(((draws.mean(0) - bound) / error).abs().max() < 4.5)


@pytest.mark.parametrize(("steps", "vocab"), [(1, 7), (8, 7), (32, 300)])
@pytest.mark.parametrize("ordinal", [False, True])
def test_gaussian_noise_needs_no_float64(steps, vocab, ordinal):
    made = family("uniform_diffusion", steps=steps, noise="gaussian")
    seen, chunk = observations(64), chunks_for(made, 64, vocab=vocab)
    with ordinal_heads() if ordinal else nullcontext():
        network = network_for(made, vocab=vocab)
    precise = made.loss(network, chunk, seen, generator=generator(1))
    loss = made.loss(network.float(), chunk, seen.float(), generator=generator(1))
    assert (precise.dtype, loss.dtype) == (torch.float64, torch.float32)
    # An ordinal head alone loses digits, with uniform noise as much.
    assert (loss / precise - 1).abs().max() < (2e-4 if ordinal else 1e-5)


def test_gaussian_answers_may_be_as_sure_as_they_like():
    """Whatever the network says, however far from the noisy token: laws are finite and sum to one, in float32, too."""
    noise, vocab = DiscretizedGaussian(32), 200
    for dtype, t in itertools.product((torch.float32, torch.float64), (1, 2, 16, 32)):
        sure = torch.full((1, 1, vocab), -3000.0, dtype=dtype).index_fill(-1, torch.tensor([3]), 0.0).requires_grad_()
        noisy, times = torch.tensor([[190]]), torch.tensor([t])
        clean = torch.softmax(noise.informed(Categorical(sure), noisy, times).logits, -1)
        law = noise.posterior(noisy, clean, times)
        assert math.isclose(float(law.detach().sum()), 1.0, abs_tol=1e-5)
        law.square().sum().backward()
        assert bool(sure.grad.isfinite().all())


def test_a_table_made_in_sampling_serves_training():
    made = family("uniform_diffusion", steps=5, noise="gaussian")
    network, seen = network_for(made, vocab=11), observations(2)
    tables_for.cache_clear()
    with torch.inference_mode():
        made.sample(network, seen, Request(generator(1)))
    made.loss(network, chunks_for(made, 2, vocab=11), seen, generator=generator(2)).sum().backward()


def test_gaussian_diffusion_at_temperature_zero_takes_the_likeliest_of_what_noise_and_network_say():
    made = family("uniform_diffusion", steps=1, noise="gaussian")
    network, seen = network_for(made), observations(6)
    start = (uniforms((6, 5), generator(3)) * 7).long()
    logits = made.ask(network, start, seen, torch.ones(6, dtype=torch.int64)).logits
    sample = made.sample(network, seen, Request(generator(3), temperature=0.0))
    assert torch.equal(sample.chunk, logits.argmax(-1))
    narrow = made.sample(network, seen, Request(generator(3), nucleus=1e-6))
    assert torch.equal(narrow.chunk, sample.chunk)
    known = torch.full((6, 5), UNKNOWN)
    known[:, 2] = 4
    assert bool((made.sample(network, seen, Request(generator(3), known=known)).chunk[:, 2] == 4).all())
