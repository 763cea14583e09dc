"""The ordinal head is a distribution over numbers: exact, stable and placed by the data."""

import itertools
import math

import pytest
import torch

from anyorder.factorization.categorical import probabilities
from anyorder.factorization.conditionals import Ordinal, digits
from anyorder.networks import OrdinalHead


def answers(sizes, components=3, rows=40, seed=0, dtype=torch.float64):
    """Return random mixtures, some far outside the numbers and some as narrow as they get."""
    torch.manual_seed(seed)
    shape = (rows, 2, len(sizes), components)
    places = torch.randn(shape, dtype=dtype) * 2 * max(sizes)
    scales = torch.empty(shape, dtype=dtype).uniform_(-2.5, math.log(2 * max(sizes)))
    mixture = torch.stack([torch.randn(shape, dtype=dtype).log_softmax(-1), places, scales], -2)
    return Ordinal(mixture, sizes)


@pytest.mark.parametrize("sizes", [(1,), (2,), (7,), (300,), (3, 4), (8, 5, 5, 5)])
def test_sums_to_one_and_scores_as_its_logits_say(sizes):
    answer = answers(sizes)
    law = answer.logits
    assert law.shape == (40, 2, math.prod(sizes))
    assert torch.allclose(law.logsumexp(-1), torch.zeros(40, 2).double(), atol=1e-9)
    for token in {0, 1 % law.shape[-1], law.shape[-1] // 2, law.shape[-1] - 1}:
        tokens = torch.full((40, 2), token)
        assert torch.allclose(answer.log_prob(tokens), law[..., token], atol=1e-12)


def test_is_the_integral_of_the_mixtures_density():
    answer = answers((9,), rows=4)
    weights, places, scales = answer.mixture[..., 0, :, :].unbind(-2)
    edges = torch.arange(1, 9).double() - 0.5
    below = torch.sigmoid((edges.view(-1, 1) - places.unsqueeze(-2)) / scales.exp().unsqueeze(-2))
    cumulative = (weights.exp().unsqueeze(-2) * below).sum(-1)
    ends = torch.cat([torch.zeros(4, 2, 1), cumulative, torch.ones(4, 2, 1)], -1)
    assert torch.allclose(answer.logits.exp(), ends.diff(dim=-1), atol=1e-12)


def test_digits_are_the_mixed_radix_of_tokens():
    sizes = (3, 2, 4)
    radix = [1, 3, 6]
    for number, parts in enumerate(itertools.product(*(range(n) for n in reversed(sizes)))):
        assert digits(torch.tensor(number), sizes).tolist() == list(reversed(parts))
        assert sum(d * r for d, r in zip(reversed(parts), radix, strict=True)) == number


def test_gradients_are_those_of_finite_differences_and_finite_in_the_far_tails():
    answer = answers((6,), rows=3)
    mixture = answer.mixture.clone().requires_grad_()
    tokens = torch.tensor([[0, 3], [5, 2], [1, 5]])
    assert torch.autograd.gradcheck(lambda m: Ordinal(m, (6,)).log_prob(tokens), mixture)
    far = torch.tensor([0.0, 1e4, -2.5], requires_grad=True)
    for token in range(6):
        score = Ordinal(far.view(1, 1, 1, 3, 1), (6,)).log_prob(torch.tensor([[token]]))
        (gradient,) = torch.autograd.grad(score.sum(), far)
        assert bool(score.isfinite().all())
        assert bool(gradient.isfinite().all())


def test_indexing_is_that_of_the_logits():
    answer = answers((5,))
    assert torch.equal(answer[:, 1].logits, answer.logits[:, 1])
    assert torch.equal(answer.at(torch.ones(40).long()).logits, answer.logits[:, 1])
    marked = torch.rand(40, 2) < 0.5
    assert torch.allclose(answer.logits[marked], answer[marked].logits)


def test_a_fresh_head_has_the_place_and_width_of_the_codes():
    codes = torch.stack([torch.randint(40, 60, (5000,)), torch.full((5000,), 7), torch.randint(100, (5000,))], 1)
    numbers = digits(codes, (100,)).double()
    head = OrdinalHead(8, 3, (100,), components=5)
    head.place(numbers.mean(0), numbers.std(0, correction=0))
    law = head(torch.zeros(1, 3, 8), torch.arange(3).unsqueeze(0)).logits.exp().double()[0]
    values = torch.arange(100).double()
    mean = (law * values).sum(-1)
    assert torch.allclose(mean, numbers.mean(0)[:, 0], atol=2.0)
    width = ((law * (values - mean.unsqueeze(-1)).square()).sum(-1)).sqrt()
    assert bool((width > 0.5 * numbers.std(0)[:, 0]).all())
    # It codes them better than the law that knows nothing.
    assert law.gather(1, codes.T).log().mean() > -math.log(100) + 0.5


def test_parameters_stay_in_float32_where_the_trunk_is_half_precision():
    head = OrdinalHead(8, 3, (50,), components=5)
    torch.nn.init.normal_(head.out.weight)
    features, targets = torch.randn(4, 3, 8), torch.arange(3).expand(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        half = head(features.bfloat16(), targets)
    assert half.mixture.dtype == torch.float32
    assert torch.equal(half.mixture, head(features.bfloat16().float(), targets).mixture)


def test_a_number_that_is_not_finite_reaches_the_logits():
    head = OrdinalHead(8, 3, (50,), components=2)
    torch.nn.init.normal_(head.out.weight)
    features = torch.full((1, 3, 8), float("nan"))
    assert bool(head(features, torch.arange(3).unsqueeze(0)).logits.isnan().all())


def test_temperature_zero_is_the_likeliest_number():
    answer = answers((11,))
    assert torch.equal(probabilities(answer.logits, 0.0).argmax(-1), answer.logits.argmax(-1))
