"""A small fitted policy, and where it is saved as LeRobot saves one."""

import torch
from lerobot.configs import FeatureType, PolicyFeature

from anyorder.datasets.read.statistics import Statistics
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy, make_anyorder_pre_post_processors
from anyorder.policies.fitting import fit

STATE, ACTIONS, HORIZON = 3, 2, 6


def policy(factorization="masked_diffusion", **settings):
    """Return a fitted policy that reads ``observation.state`` of size 3 and gives actions of size 2."""
    config = AnyOrderConfig(
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (STATE,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTIONS,))},
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=4,
        factorization=factorization,
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        push_to_hub=False,
        **{"tokenizer": "fast", "tokenizer_options": {"vocab_size": 200}, **settings},
    )
    generator = torch.Generator().manual_seed(0)
    state = 10 * torch.randn(100, STATE, generator=generator)
    steps = torch.linspace(0, 3, HORIZON).view(1, -1, 1)
    chunks = 40 * torch.sin(steps + torch.rand(100, 1, ACTIONS, generator=generator) * 6)
    statistics = {"observation.state": Statistics.of(state.numpy()).as_lerobot()}
    torch.manual_seed(0)
    return AnyOrderPolicy(config, fit(config, statistics, {"observation.state": state, "action": chunks}, fps=30.0))


def save(made, folder):
    """Save a policy with its processors, as both training commands do."""
    made.save_pretrained(folder)
    for processor in make_anyorder_pre_post_processors(made.config):
        processor.save_pretrained(folder)
    return folder
