import os

import pytest

from tests.datasets.toy_env import ToyConfig

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from anyorder.datasets import record


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    """Twelve episodes of 12 to 40 frames: more than one data file."""
    root = tmp_path_factory.mktemp("recorded") / "toy"
    record(ToyConfig(), root, episodes=12, seed=3)
    return root


@pytest.fixture(scope="session")
def video_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("recorded") / "video"
    record(ToyConfig(camera=True), root, episodes=3)
    return root
