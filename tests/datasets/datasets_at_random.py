"""Small LeRobot datasets with random contents, for tests."""

import numpy as np
import torch

CAMERAS = {"observation.images.film": "video", "observation.images.picture": "image"}


def write_random(
    root, seed, fps=20, cameras=CAMERAS, size=(32, 48), state=3, action=2, tasks=("Walk.", "Run."), lengths=None
):
    """Episodes of 1 to 9 frames with noisy images, written by LeRobot; returns their lengths."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    random = np.random.default_rng(seed)
    features = {
        "observation.state": {"dtype": "float32", "shape": (state,), "names": None},
        "observation.grip": {"dtype": "float32", "shape": (1,), "names": None},
        "action": {"dtype": "float32", "shape": (action,), "names": None},
    }
    for key, kind in cameras.items():
        names = ["height", "width", "channels"]
        features[key] = {"dtype": kind, "shape": (*size, 3), "names": names}
    dataset = LeRobotDataset.create(
        "local/random", fps, features, root=root, use_videos="video" in cameras.values(), video_backend="pyav"
    )
    lengths = random.integers(1, 10, size=3).tolist() if lengths is None else lengths
    with SuppressProgressBars():
        for length in lengths:
            task = tasks[random.integers(len(tasks))]
            for _ in range(length):
                frame = {key: random.integers(0, 256, (*size, 3), dtype=np.uint8) for key in cameras}
                for key in ("observation.state", "observation.grip", "action"):
                    frame[key] = random.normal(size=features[key]["shape"]).astype(np.float32)
                dataset.add_frame({**frame, "task": task})
            dataset.save_episode(parallel_encoding=False)
        dataset.finalize()
    return lengths


def lerobot_items(root, rows, horizon, history, fps=20):
    """What LeRobot's own dataset and collation give."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / fps for step in range(horizon)]}
    if history > 1:
        observed = ["observation.state", "observation.grip", *CAMERAS]
        deltas |= {key: [step / fps for step in range(1 - history, 1)] for key in observed}
    dataset = LeRobotDataset("local/random", root=root, delta_timestamps=deltas, video_backend="pyav")
    return torch.utils.data.default_collate([dataset[row] for row in rows])
