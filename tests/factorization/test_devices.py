"""Numbers drawn on one device for another, devices without float64, and half precision."""

import copy

import pytest
import torch

from anyorder.factorization import UNKNOWN, Request, TokenAutomaton, TokenFactorization
from anyorder.factorization.noise_time import with_time
from anyorder.factorization.precision import has_float64, to_float64
from anyorder.testing.probes import chunks_for, exactly_one_two, generator, network_for, observations

from .families import CONFIGS, every_config
from .pretend import Pretend


def answers(family, network, make, seen, chunk, move=lambda x: x):
    """Everything a family can be asked, by name; ``make`` makes a generator from a seed."""
    asked = {
        "loss": family.loss(network, chunk, seen, generator=make(1)),
        "sample": family.sample(network, seen, Request(make(2), temperature=0.7, nucleus=0.9)).chunk,
    }
    if isinstance(family, TokenFactorization):
        asked["score"] = family.log_prob(network, chunk, seen, generator=make(4), samples=3).value
    if family.discrete:
        law = exactly_one_two()
        law = TokenAutomaton(move(law.token_class), move(law.next_state), law.start, law.accept)
        known = torch.full((4, 5), UNKNOWN)
        known[:, 0] = 2
        asked["constrained"] = family.sample(network, seen, Request(make(5), constraint=law)).chunk
        if family.infills:
            asked["known"] = family.sample(network, seen, Request(make(7), known=move(known))).chunk
    else:
        known = torch.full((4, 5, 2), torch.nan)
        known[:, 0] = 0.5
        asked["known"] = family.sample(network, seen, Request(make(7), known=move(known))).chunk
    return asked


@every_config
@torch.no_grad()
def test_a_generator_may_be_on_another_device(config):
    family = config.build()
    network, seen, chunk = network_for(family).float(), observations(4).float(), chunks_for(family, 4)
    chunk = chunk if family.discrete else chunk.float()
    expected = answers(family, network, generator, seen, chunk)
    # Apple's, which is a GPU without float64.
    with Pretend("mps") as pretend:
        there = pretend.network(copy.deepcopy(network))
        far = pretend.far
        found = answers(family, there, generator, far(seen), far(chunk), far)
        assert all(x.device.type == "mps" for x in found.values())
        own = {
            "loss": family.loss(there, far(chunk), far(seen), generator=pretend.generator(1)),
            "sample": family.sample(there, far(seen), Request(pretend.generator(2))).chunk,
        }
        found = {name: x.cpu() for name, x in found.items()}
    for name, value in expected.items():
        # One seed means the same numbers, whatever the device.
        assert torch.allclose(found[name].double(), value.double(), atol=1e-4), name
    assert own["sample"].shape == expected["sample"].shape


@every_config
@torch.no_grad()
def test_a_generator_on_a_gpu_serves_a_network_on_the_cpu(config):
    family = config.build()
    network, seen, chunk = network_for(family), observations(4), chunks_for(family, 4)
    with Pretend("cuda") as pretend:
        loss = family.loss(network, chunk, seen, generator=pretend.generator(1))
        sample = family.sample(network, seen, Request(pretend.generator(1)))
        assert (loss.device.type, sample.chunk.device.type) == ("cpu", "cpu")


def test_apples_gpu_has_no_float64():
    assert has_float64(torch.device("cuda"))
    assert not has_float64(torch.device("mps"))
    with Pretend("mps") as pretend:
        moved = to_float64(pretend.far(torch.ones(2)))
        assert (moved.dtype, moved.device.type) == (torch.float64, "cpu")


@pytest.mark.parametrize("width", [5, 16, 64])
def test_noise_levels_are_told_precisely_to_a_half_precision_context(width):
    times = torch.arange(33) / 32
    context = torch.zeros(33, 4, width)
    precise = with_time(context, times)[:, -1]
    half = with_time(context.bfloat16(), times)[:, -1]
    assert half.dtype == torch.bfloat16
    assert (half.float() - precise).abs().max() < 0.005
    with torch.autocast("cpu", dtype=torch.bfloat16):
        told = with_time(context.bfloat16(), times)[:, -1].float()
    assert torch.corrcoef(torch.stack([precise.flatten(), told.flatten()]))[0, 1] > 0.9999


@every_config
def test_losses_are_float32_and_near_under_autocast(config):
    family = config.build()
    network, seen, chunk = network_for(family).float(), observations(16).float(), chunks_for(family, 16)
    chunk = chunk if family.discrete else chunk.float()
    enter = torch.nn.Linear(16, 16)
    precise = family.loss(network, chunk, enter(seen), generator=generator(1))
    assert precise.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context = enter(seen)
        assert context.dtype == torch.bfloat16
        loss = family.loss(network, chunk, context, generator=generator(1))
    assert loss.dtype == torch.float32
    assert (loss - precise).abs().max() < 0.02 * precise.abs().mean() + 0.02


@every_config
@torch.no_grad()
def test_half_precision_weights_work_and_stay_near(config):
    family = config.build()
    network, seen, chunk = network_for(family).float(), observations(16).float(), chunks_for(family, 16)
    chunk = chunk if family.discrete else chunk.float()
    half = copy.deepcopy(network).to(torch.bfloat16)
    precise = family.loss(network, chunk, seen, generator=generator(1))
    loss = family.loss(half, chunk, seen.bfloat16(), generator=generator(1))
    assert loss.dtype == torch.float32
    assert (loss - precise).abs().max() < 0.03 * precise.abs().mean() + 0.03
    sample = family.sample(half, seen.bfloat16(), Request(generator(2)))
    assert sample.chunk.dtype == (torch.int64 if family.discrete else torch.float32)
    assert sample.log_prob is None or sample.log_prob.dtype == torch.float32
    if not family.discrete:
        near = family.sample(network, seen, Request(generator(2))).chunk
        # Diffusion by an untrained network magnifies a difference in a few of its numbers.
        assert (sample.chunk - near).abs().median() < 0.02 * near.abs().max()
    if isinstance(family, TokenFactorization):
        score = family.log_prob(half, chunk, seen.bfloat16(), generator=generator(3), samples=4).value
        expected = family.log_prob(network, chunk, seen, generator=generator(3), samples=4).value
        assert score.dtype == torch.float32
        assert (score - expected).abs().max() < 0.02 * expected.abs().mean()
        # More digits than bfloat16 has.
        assert not torch.equal(score, score.bfloat16().float())


@pytest.mark.parametrize(("steps", "vocab"), [(1, 7), (8, 7), (32, 300), (1000, 300)])
def test_uniform_diffusion_needs_no_float64(steps, vocab):
    family = type(CONFIGS[0]).named("uniform_diffusion", steps=steps).build()
    network, seen = network_for(family, vocab=vocab), observations(64)
    chunk = chunks_for(family, 64, vocab=vocab)
    precise = family.loss(network, chunk, seen, generator=generator(1))
    loss = family.loss(network.float(), chunk, seen.float(), generator=generator(1))
    assert (precise.dtype, loss.dtype) == (torch.float64, torch.float32)
    assert (loss / precise - 1).abs().max() < 1e-5
