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
    from anyorder.datasets.write.recording import record
    from anyorder.envs import EnvConfig

    root = tmp_path_factory.mktemp("lift") / "dataset"
    record(EnvConfig.named("so101", task="lift"), root, episodes=6)
    return root


@pytest.fixture
def lift_copy(lift_root, tmp_path):
    """A copy of the demonstrations that a test may damage: its files are not compared with their digests."""
    return shutil.copytree(lift_root, tmp_path / "damaged", ignore=shutil.ignore_patterns("SHA256SUMS"))


@pytest.fixture(scope="session")
def pictures_root(tmp_path_factory):
    """A dataset of random numbers and pictures: two tasks, an episode each; one action has a joint's name."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    root = tmp_path_factory.mktemp("pictures") / "two"
    features = {
        "observation.state": {"dtype": "float32", "shape": (2,), "names": ["pan", "lift"]},
        "action": {"dtype": "float32", "shape": (2,), "names": ["lift", "grip"]},
        "observation.images.top": {"dtype": "image", "shape": (24, 32, 3), "names": ["height", "width", "channels"]},
    }
    made = LeRobotDataset.create("local/two", 30, features, root=root, use_videos=False, video_backend="pyav")
    random = np.random.default_rng(0)
    with SuppressProgressBars():
        for task in ("Lift.", "Push."):
            for _ in range(12):
                frame = {k: random.normal(size=2).astype(np.float32) for k in ("observation.state", "action")}
                picture = random.integers(256, size=(24, 32, 3), dtype=np.uint8)
                made.add_frame({**frame, "observation.images.top": picture, "task": task})
            made.save_episode()
        made.finalize()
    return root
