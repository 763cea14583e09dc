"""Classifier-free guidance: at its ends it is the network with, and without, the observation."""

import pytest
import torch

from anyorder.factorization import Request
from anyorder.factorization.chain import shifted_slots
from anyorder.factorization.guidance import Guided
from anyorder.testing.probes import generator, network_for, observations

from .families import CONFIGS, family, named


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_scale_one_is_the_network_and_zero_ignores_the_observation(config):
    made, seen = config.build(), observations(4)
    network = network_for(made)
    plain = made.sample(network, seen, Request(generator(1))).chunk
    guided = made.sample(Guided(network, 1.0, 2), seen, Request(generator(1))).chunk
    torch.testing.assert_close(guided, plain, rtol=0, atol=1e-8)
    blind = made.sample(Guided(network, 0.0, 2), seen, Request(generator(1))).chunk
    unseen = made.sample(network, torch.zeros_like(seen), Request(generator(1))).chunk
    torch.testing.assert_close(blind, unseen, rtol=0, atol=1e-8)


def test_guided_log_probabilities_extrapolate():
    made, seen = family("autoregressive"), observations(2)
    network = network_for(made)
    slots = shifted_slots(network, torch.zeros(2, 5).long(), torch.arange(5).expand(2, -1))
    guided = Guided(network, 3.0, 2)
    answer, _ = guided(slots, guided.prefill(seen))
    observed = torch.log_softmax(network(slots, network.prefill(seen))[0].logits, -1)
    null = torch.log_softmax(network(slots, network.prefill(torch.zeros_like(seen)))[0].logits, -1)
    wanted = torch.log_softmax(3 * observed - 2 * null, -1)
    torch.testing.assert_close(torch.log_softmax(answer.logits, -1), wanted, rtol=0, atol=1e-10)
