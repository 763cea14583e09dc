"""Policies whose actions are normalised in each way, and policies in half precision."""

import copy

import pytest
import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature

from anyorder.datasets.read.statistics import Statistics
from anyorder.devices import default_generator
from anyorder.factorization import FactorizationConfig, Request
from anyorder.factorization.families.gaussian_diffusion import GaussianDiffusion
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.networks.heads import OrdinalHead
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit
from anyorder.policies.normalizer import Normalizer
from anyorder.training.checkpoint import load_policy

HORIZON = 4
STATE, ACTIONS = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)), 3


def actions():
    """Chunks far from [-1, 1] that follow from the state; a tenth of them are far from the others, too."""
    far = torch.where(torch.arange(200) % 10 == 0, 10.0, 0.0).view(-1, 1, 1)
    return 200 + far + STATE[:, :1].unsqueeze(1).expand(-1, HORIZON, ACTIONS)


def make(family, mode=NormalizationMode.MIN_MAX, chunks=None, **settings):
    levels = FactorizationConfig.named(family).build().needs_levels
    config = AnyOrderConfig(
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (2,))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTIONS,))},
        device="cpu",
        chunk_size=HORIZON,
        n_action_steps=2,
        factorization=family,
        tokenizer="dct" if levels else "bins",
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        push_to_hub=False,
        **settings,
    )
    config.normalization_mapping = {**config.normalization_mapping, "ACTION": mode}
    statistics = {"observation.state": Statistics.of(STATE.numpy()).as_lerobot()}
    torch.manual_seed(0)
    batch = {"observation.state": STATE, "action": actions() if chunks is None else chunks}
    return AnyOrderPolicy(config, fit(config, statistics, batch, fps=30.0))


@pytest.mark.parametrize(
    ("mode", "limit"),
    [
        (NormalizationMode.MIN_MAX, 1.0),
        (NormalizationMode.QUANTILES, 1.0),
        (NormalizationMode.MEAN_STD, 10.0),
        (NormalizationMode.IDENTITY, 211.0),
    ],
)
@pytest.mark.parametrize("scheduler", ["ddim", "ddpm"])
def test_diffusion_clips_at_the_limit_of_the_normalisation(mode, limit, scheduler, tmp_path):
    policy = make("gaussian_diffusion", mode, factorization_options={"scheduler": scheduler})
    policy.save_pretrained(tmp_path)
    for p in (policy, load_policy(tmp_path, "cpu"), copy.deepcopy(policy)):
        assert p.network.limit == pytest.approx(limit, rel=0.01)

    def reached(diffusion, value):
        """Ask for a chunk from a network that knows the answer to be one value."""

        class Oracle:
            horizon, action_size, vocab_size, limit = HORIZON, ACTIONS, None, policy.network.limit

            def prefill(self, context):
                return None

            def __call__(self, values, cache, times):
                signal = diffusion.noising.alphas_cumprod.double()[(times * 100).round().long()].view(-1, 1, 1)
                return (values - signal.sqrt() * value) / (1 - signal).sqrt()

        context = torch.zeros(2, 1, 1, dtype=torch.float64)
        return diffusion.sample(Oracle(), context, Request(torch.Generator().manual_seed(0))).chunk

    family = policy.factorization
    assert isinstance(family, GaussianDiffusion)
    assert (reached(family, 0.95 * limit) / (0.95 * limit) - 1).abs().max() < 1e-3
    assert (reached(family, 3 * limit) / policy.network.limit - 1).abs().max() < 1e-3


@pytest.mark.parametrize("family", sorted(FactorizationConfig.choices))
@torch.no_grad()
def test_a_policy_in_half_precision_scores_and_acts_nearly_alike(family):
    policy, batch = make(family), {"observation.state": STATE[:16], "action": actions()[:16]}
    half = copy.deepcopy(policy).to(torch.bfloat16)
    precise, near = (p(batch, generator=torch.Generator().manual_seed(1))[0] for p in (policy, half))
    assert near.dtype == torch.float32
    assert abs(near - precise) < 0.02 * abs(precise) + 0.02
    chunk = half.predict_action_chunk(batch)
    assert chunk.dtype == torch.float32
    low, high = actions().flatten(0, 1).aminmax(dim=0)
    assert ((chunk >= low - 1e-3) & (chunk <= high + 1e-3)).all()
    if hasattr(policy.factorization, "log_prob"):
        draws = [p.log_prob(batch, generator=torch.Generator().manual_seed(2), samples=4) for p in (policy, half)]
        assert (draws[1].value / draws[0].value - 1).abs().max() < 0.03


def test_half_precision_keeps_the_robots_units():
    values = torch.tensor([[199.0, 0.1], [203.0, 0.3], [200.3, 0.2]])
    statistics = Statistics.of(values.numpy()).as_lerobot()
    for mode in (NormalizationMode.MIN_MAX, NormalizationMode.MEAN_STD):
        normalizer = Normalizer(2).fit(statistics, mode)
        half = torch.nn.ModuleDict({"action": copy.deepcopy(normalizer)}).to(torch.bfloat16)["action"]
        assert torch.equal(half(values), normalizer(values))
        assert (half.inverse(half(values)) - values).abs().max() < 1e-4
        assert set(half.state_dict()) == {"center", "radius", "limit"}


def test_a_head_over_numbers_keeps_its_digits_in_half_precision():
    head = OrdinalHead(4, length=3, sizes=(300,), components=2)
    head.place(torch.full((3, 1), 201.3), torch.full((3, 1), 0.7))
    torch.nn.init.normal_(head.out.weight)
    features, targets = torch.randn(5, 3, 4).bfloat16(), torch.arange(3).expand(5, 3)
    half = torch.nn.ModuleDict({"head": copy.deepcopy(head)}).to(torch.bfloat16)["head"]
    assert torch.equal(half(features, targets).mixture, head(features, targets).mixture)
    assert torch.nn.ModuleDict({"head": head}).double()["head"].mean.dtype == torch.float64


def test_the_generator_of_a_device_without_one_of_its_own_is_the_cpus():
    assert default_generator(torch.device("mps")) is torch.default_generator
    policy = make("flow_matching", observation_noise=0.1, context_dropout=0.5)
    loss, _ = policy({"observation.state": STATE, "action": actions()})
    assert loss.isfinite()
