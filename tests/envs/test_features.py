from types import SimpleNamespace

import numpy as np
import pytest
import torch

from anyorder.envs.features import check_features
from anyorder.envs.lerobot_names import to_batch
from anyorder.envs.so101 import So101Config
from anyorder.errors import EnvError


def moments(value, camera=True):
    observation = {"agent_pos": np.full(2, value, np.float32), "environment_state": np.full(1, -value, np.float32)}
    if camera:
        observation["pixels"] = {"top": np.full((9, 7, 3), 51 * value, np.uint8)}
    return observation


def test_observations_get_lerobots_keys_and_scale():
    batch = to_batch([[moments(i)] for i in range(3)])
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "observation.state": ((3, 2), torch.float32),
        "observation.environment_state": ((3, 1), torch.float32),
        "observation.images.top": ((3, 3, 9, 7), torch.float32),
    }
    assert batch["observation.images.top"][:, 0, 0, 0].tolist() == pytest.approx([0, 0.2, 0.4])


def test_a_history_gets_an_axis_of_its_own():
    batch = to_batch([[moments(0), moments(1)], [moments(2), moments(3)]])
    assert batch["observation.state"][:, :, 0].tolist() == [[0, 1], [2, 3]]
    assert batch["observation.images.top"].shape == (2, 2, 3, 9, 7)
    assert batch["observation.images.top"][1, :, 0, 0, 0].tolist() == pytest.approx([0.4, 0.6])


@pytest.fixture(scope="module")
def env():
    made = So101Config(cameras=["front"], image_width=64, image_height=48).build()
    yield made
    made.close()


FITTING = {
    "required_features": {"observation.state": (6,), "observation.images.front": (3, 96, 128)},
    "action_size": 6,
    "fps": 25.5,
}


def test_a_policy_that_fits_is_let_through(env):
    check_features(env, SimpleNamespace(**FITTING))
    check_features(env, SimpleNamespace())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"required_features": {"observation.state": (7,), "observation.images.top": (3, 48, 64)}},
            r"env features: .*with observation.state \(7,\), observation.images.top \(3, 48, 64\)",
        ),
        ({"required_features": {"observation.images.front": (3, 64, 64)}}, r"front \(3, 64, 64\)"),
        ({"required_features": {"observation.images.front": (1, 48, 64)}}, r"front \(1, 48, 64\)"),
        ({"action_size": 7}, r"env action: \[6\] given, allowed: \(7,\)"),
        ({"fps": 24}, "control rate of the env: '30 Hz' given, allowed: 24 Hz"),
        ({"fps": 40}, "control rate of the env: '30 Hz' given, allowed: 40 Hz"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(env, change, message):
    with pytest.raises(EnvError, match=message) as error:
        check_features(env, SimpleNamespace(**{**FITTING, **change}))
    assert "\n" not in str(error.value)
