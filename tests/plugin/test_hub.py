"""A policy saved, pushed and loaded the way LeRobot does it, without a network."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.policies import make_policy, make_pre_post_processors

from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from tests.plugin.saved import policy, save


def observation(rows=3):
    generator = torch.Generator().manual_seed(3)
    return {
        "observation.state": 20 * torch.randn(rows, 6, generator=generator),
        "observation.environment_state": torch.randn(rows, 5, generator=generator),
        "task": ["Lift."] * rows,
    }


def act(made, pre, post):
    """Return a chunk as LeRobot's evaluation gets it, a fresh draw from seed 0."""
    made.manual_seed(0)
    return post(made.predict_action_chunk(pre(observation())))


@pytest.mark.parametrize("family", ["autoregressive", "regression"])
def test_a_policy_made_by_lerobot_reads_back_the_same(family, lift_root, tmp_path):
    config = AnyOrderConfig(
        factorization=family,
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        device="cpu",
        temperature=1.0 if family == "autoregressive" else 0.0,
        push_to_hub=False,
    )
    made = make_policy(config, ds_meta=LeRobotDatasetMetadata("local/lift", root=lift_root)).eval()
    wanted = act(made, *make_pre_post_processors(config))
    folder = save(made, tmp_path / "pretrained_model")

    again = PreTrainedConfig.from_pretrained(folder)
    again.pretrained_path = folder
    loaded = make_policy(again, ds_meta=LeRobotDatasetMetadata("local/lift", root=lift_root))
    assert torch.equal(act(loaded, *make_pre_post_processors(again, pretrained_path=folder)), wanted)
    # Not fitted again, although the metadata was there.
    assert loaded.state_dict().keys() == made.state_dict().keys()
    for name, value in made.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


class Hub:
    """Stands for the hub; keeps what it is sent."""

    def __init__(self):
        self.files = {}

    def create_repo(self, repo_id, **_):
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, repo_id, folder_path, allow_patterns=None, **_):
        for path in Path(folder_path).iterdir():
            if allow_patterns is None or any(path.match(pattern) for pattern in allow_patterns):
                self.files[path.name] = path.read_bytes()
        return SimpleNamespace(repo_url=SimpleNamespace(url=f"hub/{repo_id}"))


def test_everything_a_policy_needs_goes_to_the_hub_and_comes_back(tmp_path, monkeypatch):
    hub = Hub()
    monkeypatch.setattr("lerobot.policies.pretrained.HfApi", lambda *_, **__: hub)
    monkeypatch.setattr("lerobot.utils.hub.HfApi", lambda *_, **__: hub)
    made = policy(repo_id="ann/lift")
    config = TrainPipelineConfig(dataset=DatasetConfig(repo_id="ann/demos"), policy=made.config, steps=10)
    made.push_model_to_hub(config)  # these three lines end `lerobot-train`
    for processor in make_pre_post_processors(made.config):
        processor.push_to_hub("ann/lift")
    assert sorted(hub.files) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "policy_postprocessor.json",
        "policy_preprocessor.json",
        "train_config.json",
    ]
    assert b"| factorization | `masked_diffusion`" in hub.files["README.md"]
    assert b"--policy.path=ann/lift" in hub.files["README.md"]
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)
    batch = {"observation.state": torch.tensor([[1.0, -2.0, 3.0]])}
    loaded = AnyOrderPolicy.from_pretrained(folder)
    assert torch.equal(loaded.predict_action_chunk(batch), made.predict_action_chunk(batch))
    make_pre_post_processors(loaded.config, pretrained_path=folder)
