"""Every family with its default settings, and the settings that make another family of it."""

import pytest

from anyorder.factorization import FactorizationConfig

VARIANTS = [
    ("autoregressive", {"orders": "fixed", "k": 4, "jitter": "uniform"}),
    ("autoregressive", {"orders": "fixed", "k": 2, "target_positions": False}),
    ("autoregressive", {"orders": "fixed", "k": 3, "ensemble": True, "jitter": "uniform"}),
    ("autoregressive", {"orders": "random"}),
    ("autoregressive", {"orders": "random", "ensemble": True}),
    ("autoregressive", {"orders": "annealed"}),
    ("autoregressive", {"token_masking": 0.5}),
    ("autoregressive", {"queries": True}),
    ("autoregressive", {"queries": True, "orders": "fixed", "k": 3, "ensemble": True, "jitter": "uniform"}),
    ("autoregressive", {"queries": True, "orders": "random", "ensemble": True}),
    ("autoregressive", {"queries": True, "token_masking": 0.5}),
    ("autoregressive", {"lookahead": 3}),
    ("autoregressive", {"lookahead": 3, "queries": True}),
    ("chunked", {"sizes": [2], "joint": False}),
    ("chunked", {"sizes": [1, 3]}),
    ("masked_diffusion", {"sampler": "ancestral", "steps": 4, "schedule": "cosine"}),
    ("masked_diffusion", {"sampler": "remasking", "steps": 6}),
    ("masked_diffusion", {"sampler": "first_hitting"}),
    ("masked_diffusion", {"sampler": "confidence", "steps": 3}),
    ("masked_diffusion", {"sampler": "spread", "steps": 2, "sampling_schedule": "maskgit"}),
    ("masked_diffusion", {"sampler": "threshold", "threshold": 0.5}),
    ("masked_diffusion", {"loss": "bernoulli", "schedule": "polynomial"}),
    ("masked_diffusion", {"refresh": 3}),
    ("block_diffusion", {"block_size": 1}),
    ("block_diffusion", {"block_size": 2, "sampler": "first_hitting"}),
    ("block_diffusion", {"block_size": 3, "sampler": "remasking", "steps": 5}),
    ("block_diffusion", {"block_size": 2, "sampler": "confidence", "steps": 1}),
    ("uniform_diffusion", {"steps": 3, "auxiliary": 0.0}),
    ("uniform_diffusion", {"noise": "gaussian"}),
    ("uniform_diffusion", {"noise": "gaussian", "steps": 3, "auxiliary": 0.0}),
    ("gaussian_diffusion", {"prediction": "sample", "scheduler": "ddpm"}),
    ("gaussian_diffusion", {"prediction": "v_prediction", "scheduler": "dpm_solver"}),
    ("gaussian_diffusion", {"scheduler": "dpm_solver"}),
    ("mip", {"weighted": True}),
    ("regression", {"norm": "l2"}),
]

CONFIGS = [kind() for kind in FactorizationConfig.choices.values()] + [
    FactorizationConfig.named(name, **options) for name, options in VARIANTS
]


def named(config):
    """Return the family's name and what differs from its defaults."""
    default = type(config)().options()
    changed = [f"{k}={v}" for k, v in config.options().items() if v != default[k]]
    return "-".join([config.choice, *changed])


def family(name, **options):
    """Make a factorization by name."""
    return FactorizationConfig.named(name, **options).build()


every_config = pytest.mark.parametrize("config", CONFIGS, ids=named)
