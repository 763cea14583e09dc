"""Families over values: they learn what they are shown, and keep two modes where they can."""

import pytest
import torch

from anyorder.errors import ConfigError, NotFiniteError
from anyorder.factorization import UNKNOWN, Request
from anyorder.factorization.families.analog_bits import to_bits
from anyorder.networks import ChunkNetwork, SlotNetwork, TransformerConfig
from anyorder.testing.probes import Counting, generator

from .families import CONFIGS, family, named

VALUES = [config for config in CONFIGS if not config.build().discrete]


def network(horizon=4, size=2, vocab=None):
    torch.manual_seed(0)
    return ChunkNetwork(TransformerConfig(16, 1, 2).build(), horizon, size, vocab)


def learn(made, net, chunks, context, steps=300):
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    source = generator(1)
    for _ in range(steps):
        loss = made.loss(net, chunks, context, generator=source)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


@pytest.mark.parametrize("config", VALUES, ids=named)
def test_learns_one_chunk_per_context(config):
    net, made = network(), config.build()
    context = torch.stack([torch.zeros(1, 16), torch.ones(1, 16)])
    target = torch.tensor([-0.5, 0.5]).view(2, 1, 1).expand(2, 4, 2).contiguous()
    learn(made, net, target.repeat(16, 1, 1), context.repeat(16, 1, 1))
    sample = made.sample(net, context, Request(generator(2)))
    assert (sample.chunk - target).abs().max() < 0.15


def test_generative_families_keep_two_modes_where_regression_cannot():
    target = torch.tensor([-0.7, 0.7]).view(2, 1, 1).expand(2, 4, 2).contiguous()
    spread = {}
    for name in ("gaussian_diffusion", "flow_matching", "regression", "mip"):
        net, made = network(), family(name)
        learn(made, net, target.repeat(32, 1, 1), torch.zeros(64, 1, 16))
        spread[name] = made.sample(net, torch.zeros(64, 1, 16), Request(generator(2))).chunk.mean((1, 2)).std()
    assert min(spread["gaussian_diffusion"], spread["flow_matching"]) > 0.5
    assert max(spread["regression"], spread["mip"]) < 1e-4


@pytest.mark.parametrize("name", ["analog_bits", "embedding_diffusion"])
def test_continuous_diffusion_of_tokens_learns_a_joint(name):
    # Codes of three equal tokens: what no model of independent tokens can have.
    made = family(name)
    if name == "analog_bits":
        net = network(3, 2, 4)
    else:
        torch.manual_seed(0)
        net = SlotNetwork(TransformerConfig(16, 1, 2).build(), 3, 4)
    codes = torch.arange(4).view(4, 1).expand(4, 3).repeat(32, 1)
    learn(made, net, codes, torch.zeros(128, 1, 16), steps=500)
    chunk = made.sample(net, torch.zeros(400, 1, 16), Request(generator(2))).chunk
    equal = (chunk == chunk[:, :1]).all(1)
    assert equal.float().mean() > 0.9
    counts = torch.bincount(chunk[equal, 0], minlength=4)
    assert counts.min() > 40
    # A given token in the middle steers the others, approximately.
    known = torch.full((400, 3), UNKNOWN)
    known[:, 1] = torch.arange(400) % 4
    steered = made.sample(net, torch.zeros(400, 1, 16), Request(generator(3), known=known)).chunk
    assert (steered == known[:, 1:2]).all(1).float().mean() > 0.6


def test_digits_are_plus_and_minus_one():
    digits = to_bits(torch.arange(8), 3)
    assert set(digits.flatten().tolist()) == {-1.0, 1.0}
    assert ((digits + 1) / 2 * torch.tensor([1, 2, 4])).sum(-1).tolist() == list(range(8))


MODES, SPREAD = ((0.8, 0.5), (0.2, -0.5)), 0.1


class ExactDenoiser:
    """Knows the noise in values of two modes, and nothing else."""

    horizon, action_size, vocab_size = 1, 1, None

    def __init__(self, made):
        self.levels = made.noising.alphas_cumprod.double()

    def prefill(self, context):
        return None

    def __call__(self, values, cache, times=None):
        signal = self.levels[(times * len(self.levels)).round().long()].view(-1, 1, 1)
        spread = signal * SPREAD**2 + 1 - signal
        off = torch.stack([values - signal.sqrt() * mean for _, mean in MODES])
        chance = torch.tensor([p for p, _ in MODES]).log().view(-1, 1, 1, 1) - off.square() / spread / 2
        return (chance.softmax(0) * off).sum(0) * (1 - signal).sqrt() / spread


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        ("ddim", 10),
        ("ddim", 20),
        ("ddim", 50),
        ("ddim", 100),
        ("ddpm", 50),
        ("ddpm", 100),
        ("dpm_solver", 10),
        ("dpm_solver", 20),
        ("dpm_solver", 50),
    ],
)
def test_exact_denoising_keeps_the_modes(scheduler, steps):
    made = family("gaussian_diffusion", scheduler=scheduler, inference_steps=steps)
    seen = torch.zeros(4000, 1, 1, dtype=torch.float64)
    drawn = made.sample(ExactDenoiser(made), seen, Request(generator(3))).chunk.flatten()
    right = drawn > 0
    assert abs(right.double().mean() - 0.8) < 0.03
    assert abs(drawn[right].mean() - 0.5) < 0.02
    # Few steps lose some of the spread inside a mode.
    assert abs(drawn[right].std() / SPREAD - 1) < (0.2 if steps >= 50 else 0.4)


class Point(ExactDenoiser):
    """Knows the noise in one value, far outside [-1, 1], and perhaps how far values reach."""

    def __init__(self, made, value, limit=None):
        super().__init__(made)
        self.value = value
        if limit is not None:
            self.limit = limit

    def __call__(self, values, cache, times=None):
        signal = self.levels[(times * len(self.levels)).round().long()].view(-1, 1, 1)
        return (values - signal.sqrt() * self.value) / (1 - signal).sqrt()


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "dpm_solver"])
def test_diffusion_clips_where_the_values_end(scheduler):
    made = family("gaussian_diffusion", scheduler=scheduler)
    seen = torch.zeros(4, 1, 1, dtype=torch.float64)
    for value in (2.0, -9.5, 300.0):
        free = made.sample(Point(made, value), seen, Request(generator(1))).chunk
        assert (free / value - 1).abs().max() < 1e-3
        wide = made.sample(Point(made, value, limit=1000.0), seen, Request(generator(1))).chunk
        assert (wide / value - 1).abs().max() < 1e-3
    if scheduler != "dpm_solver":
        clipped = made.sample(Point(made, 2.0, limit=1.0), seen, Request(generator(1))).chunk
        assert (clipped - 1.0).abs().max() < 1e-6
    # What can be clipped is not what is infinite.
    with pytest.raises(NotFiniteError, match="row 0"):
        made.sample(Point(made, float("inf"), limit=1.0), seen, Request(generator(1)))


@pytest.mark.parametrize(
    ("levels", "steps", "calls"), [(256, 128, 127), (500, 250, 249), (1000, 250, 249), (100, 10, 10)]
)
def test_dpm_solver_counts_the_calls_it_makes(levels, steps, calls):
    made = family("gaussian_diffusion", scheduler="dpm_solver", train_steps=levels, inference_steps=steps)
    counting = Counting(Point(made, 0.3))
    sample = made.sample(counting, torch.zeros(1, 1, 1), Request(generator()))
    assert (counting.calls, sample.calls, sample.slots, made.calls(1)) == (calls,) * 4


def test_values_to_keep_have_to_be_values_of_the_chunks_shape():
    for name in ("gaussian_diffusion", "flow_matching", "mip", "regression"):
        for wrong in (torch.zeros(2, 4, 1), torch.zeros(4, 2), torch.zeros(2, 4, 2).long()):
            with pytest.raises(ConfigError, match="known"):
                family(name).sample(network(), torch.zeros(2, 1, 16), Request(generator(), known=wrong))


class Offset:
    """A network whose answer is off by a fixed number, whatever it reads; it keeps what it was told."""

    horizon, action_size, vocab_size = 4, 2, None

    def __init__(self, chunk, by):
        self.answer, self.times = chunk + by, []

    def prefill(self, context):
        return None

    def __call__(self, values, cache, times=None):
        self.times.append(times)
        return self.answer


@pytest.mark.parametrize(("t", "weighted"), [(0.9, False), (0.9, True), (0.5, True)])
def test_mips_residuals_weigh_as_the_papers_formula_or_as_its_code(t, weighted):
    chunk = torch.rand(3, 4, 2, generator=generator(1), dtype=torch.float64)
    loss = family("mip", t=t, weighted=weighted).loss(
        Offset(chunk, 0.3), chunk, torch.zeros(3, 1, 16), generator=generator(2)
    )
    # Both residuals are 0.3; the code divides the first by t and the second by 1 - t before squaring.
    wanted = (0.3 / t) ** 2 + (0.3 / (1 - t)) ** 2 if weighted else 2 * 0.3**2
    torch.testing.assert_close(loss, torch.full((3,), wanted, dtype=torch.float64))


@pytest.mark.parametrize(("norm", "optimum"), [("l1", 0.0), ("l2", 0.25)])
def test_regressions_norm_decides_between_median_and_mean(norm, optimum):
    """Of the values 0, 0, 0 and 1 the median is 0 and the mean a quarter."""
    chunk = torch.tensor([0.0, 0.0, 0.0, 1.0]).double().view(4, 1, 1).expand(4, 4, 2)
    answers = torch.linspace(-0.2, 1.2, 141, dtype=torch.float64)
    losses = [
        family("regression", norm=norm)
        .loss(Offset(torch.zeros(4, 4, 2).double(), by), chunk, torch.zeros(4, 1, 16), generator=generator())
        .mean()
        for by in answers
    ]
    assert float(answers[torch.stack(losses).argmin()]) == pytest.approx(optimum, abs=1e-9)
