"""One torch thread: two busy threads on two cores can be 30 times slower than one."""

import os
import shutil

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lift_root(tmp_path_factory):
    """Six demonstrations of Lift."""
    from anyorder.datasets.recording import record
    from anyorder.envs import EnvConfig

    root = tmp_path_factory.mktemp("lift") / "dataset"
    record(EnvConfig.from_options("so101", {"task": "lift"}), root, episodes=6)
    return root


@pytest.fixture
def lift_copy(lift_root, tmp_path):
    """A copy of the demonstrations that a test may damage."""
    return shutil.copytree(lift_root, tmp_path / "damaged")
