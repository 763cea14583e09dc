import pytest
import torch

from anyorder.errors import ConfigError
from anyorder.factorization import FactorizationConfig
from anyorder.networks import ChunkNetwork, TransformerConfig

CONFIGS = [
    config
    for config in (kind() for kind in FactorizationConfig.choices.values())
    if not config.build().discrete
] + [FactorizationConfig.from_options("gaussian_diffusion", {"prediction": "sample", "scheduler": "ddpm"})]


def network():
    torch.manual_seed(0)
    return ChunkNetwork(TransformerConfig(16, 1, 2).build(), horizon=4, action_size=2)


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: "-".join([c.choice, *map(str, c.options().values())])
)
def test_learns_one_chunk_per_context(config):
    net, family = network(), config.build()
    context = torch.stack([torch.zeros(1, 16), torch.ones(1, 16)])
    target = torch.tensor([-0.5, 0.5]).view(2, 1, 1).expand(2, 4, 2).contiguous()
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(250):
        loss = family.loss(net, target.repeat(16, 1, 1), context.repeat(16, 1, 1), generator=generator)
        assert loss.shape == (32,)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    sample = family.sample(net, context, generator=generator)
    assert (sample.chunk - target).abs().max() < 0.15
    assert sample.forwards >= 1


def test_gaussian_diffusion_keeps_two_modes_where_regression_cannot():
    target = torch.tensor([-0.7, 0.7]).view(2, 1, 1).expand(2, 4, 2).contiguous()
    context = torch.zeros(2, 1, 16)
    spread = {}
    for name in ("gaussian_diffusion", "regression"):
        net, family = network(), FactorizationConfig.from_options(name, {}).build()
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        generator = torch.Generator().manual_seed(1)
        for _ in range(250):
            optimizer.zero_grad()
            loss = family.loss(net, target.repeat(32, 1, 1), context.repeat(32, 1, 1), generator=generator)
            loss.mean().backward()
            optimizer.step()
        drawn = family.sample(net, context[:1].repeat(64, 1, 1), generator=generator).chunk.mean((1, 2))
        spread[name] = drawn.std()
    assert spread["gaussian_diffusion"] > 0.5
    assert spread["regression"] < 1e-4


@pytest.mark.parametrize(
    "options", [{"scheduler": "euler"}, {"inference_steps": 200}, {"prediction": "v"}, {"train_steps": 0}]
)
def test_bad_settings_are_refused(options):
    with pytest.raises(ConfigError, match="given, allowed"):
        FactorizationConfig.from_options("gaussian_diffusion", options).build()
