"""Training targets that know numbers: what they add is as published, and only the training loss has it."""

import math

import pytest
import torch

from anyorder.factorization import FactorizationConfig
from anyorder.factorization.conditionals import Categorical, Mixture, Ordinal
from anyorder.factorization.teaching import Lesson, Taught, TaughtConditionals, near
from anyorder.testing.probes import chunks_for, network_for, observations


def ordinal(mixture, sizes=(5,)):
    return Ordinal(torch.cat([mixture[..., :1, :].log_softmax(-1), mixture[..., 1:, :]], -2), sizes)


def answers(sizes=(5,), seed=0):
    """Return a free softmax, an ordinal law and a mixture of them, as functions of their parameters."""
    torch.manual_seed(seed)
    vocab = math.prod(sizes)
    parameters = torch.randn(2, 3, len(sizes), 3, 2).double()
    logits, gate = torch.randn(2, 3, vocab).double(), torch.randn(2, 3).double()
    return [
        (lambda x: Categorical(x), (logits,)),
        (lambda x: ordinal(x, sizes), (parameters,)),
        (lambda x, y, g: Mixture(ordinal(x, sizes), Categorical(y), g), (parameters, logits, gate)),
    ]


KINDS = pytest.mark.parametrize("kind", [0, 1, 2], ids=["categorical", "ordinal", "mixture"])


def test_near_is_the_gaussian_by_hand():
    # exp(-1/2) = .6065, exp(-2) = .1353 and exp(-9/2) = .0111 at width 1; x = 1 of 0..4.
    weights = torch.tensor([0.60653, 1.0, 0.60653, 0.13534, 0.01111])
    assert torch.allclose(near(torch.tensor(1), 5, 1.0), weights / weights.sum(), atol=1e-5)
    # exp(-1 / 0.98) = .36045 at the published width of 0.7.
    first, second = near(torch.tensor(0), 5, 0.7)[:2].tolist()
    assert second / first == pytest.approx(0.36045, abs=1e-5)


@KINDS
def test_marginals_and_means_are_those_of_the_logits(kind):
    make, parameters = answers((5, 3))[kind]
    answer = make(*parameters)
    law = answer.logits.softmax(-1).view(2, 3, 3, 5)
    fast, slow = answer.marginals((5, 3))
    assert torch.allclose(fast.exp(), law.sum(2), atol=1e-9)
    assert torch.allclose(slow.exp(), law.sum(3), atol=1e-9)
    mean = torch.stack([law.sum(2) @ torch.arange(5).double(), law.sum(3) @ torch.arange(3).double()], -1)
    assert torch.allclose(answer.mean((5, 3)), mean, atol=1e-9)


@KINDS
def test_score_is_the_formula(kind):
    make, parameters = answers()[kind]
    answer = make(*parameters)
    tokens = torch.tensor([[0, 3, 4], [1, 2, 2]])
    law = answer.logits.log_softmax(-1)
    numbers = torch.arange(5).double()
    q = torch.exp(-((numbers - tokens.unsqueeze(-1)) ** 2) / (2 * 2.2**2))
    soft = (q / q.sum(-1, keepdim=True) * law).sum(-1)
    distance = ((law.exp() * numbers).sum(-1) - tokens).abs()
    given = TaughtConditionals(answer, Lesson((5,), 3.0, 2.2, 0.5)).log_prob(tokens)
    assert torch.allclose(given, answer.log_prob(tokens) + 3 * soft - 0.5 * distance, atol=1e-6)


@KINDS
def test_gradients_are_those_of_finite_differences(kind):
    make, parameters = answers()[kind]
    tokens = torch.tensor([[0, 3, 4], [1, 2, 2]])
    parameters = [x.requires_grad_() for x in parameters]
    lesson = Lesson((5,), 0.7, 1.5, 0.3)
    assert torch.autograd.gradcheck(lambda *x: lesson.score(make(*x), tokens), parameters)


def test_a_mixture_sums_to_one_and_scores_as_its_logits_say():
    make, parameters = answers((4, 3))[2]
    answer = make(*parameters)
    assert torch.allclose(answer.logits.logsumexp(-1), torch.zeros(2, 3).double(), atol=1e-9)
    for token in (0, 5, 11):
        assert torch.allclose(answer.log_prob(torch.full((2, 3), token)), answer.logits[..., token], atol=1e-12)
    assert torch.allclose(answer[:, 1].logits, answer.logits[:, 1], atol=1e-12)
    inputs = [x.requires_grad_() for x in parameters]
    tokens = torch.tensor([[0, 3, 4], [1, 2, 11]])
    assert torch.autograd.gradcheck(lambda *x: make(*x).log_prob(tokens), inputs)


FAMILIES = ("autoregressive", "masked_diffusion", "chunked", "uniform_diffusion", "uniform_diffusion noise=gaussian")


@pytest.mark.parametrize("words", FAMILIES)
def test_a_lesson_of_weight_zero_changes_no_loss_and_another_does(words):
    name, *options = words.split()
    family = FactorizationConfig.named(name, **dict(option.split("=") for option in options)).build()
    network = network_for(family)
    code, context = chunks_for(family, 4), observations(4)

    def loss(asked):
        return family.loss(asked, code, context, generator=torch.Generator().manual_seed(0))

    assert torch.equal(loss(Taught(network, Lesson((7,), 0.0, 0.7, 0.0))), loss(network))
    assert bool((loss(Taught(network, Lesson((7,), 0.1, 0.7, 0.0))) > loss(network)).all())
    assert bool((loss(Taught(network, Lesson((7,), 0.0, 0.7, 0.1))) > loss(network)).all())
