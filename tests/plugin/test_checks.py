"""What does not fit is one line, before any work."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.envs import make_env_pre_post_processors
from lerobot.envs.configs import EnvConfig as LeRobotEnvConfig
from lerobot.utils.constants import ACTION
from lerobot.utils.feature_utils import dataset_to_policy_features

import lerobot_policy_anyorder  # noqa: F401  (registers the types)
from anyorder.errors import CheckpointError, DatasetError, EnvError
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.plugin.checks import check_env
from anyorder.plugin.envs import register_env_types
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.checks import check_dataset, check_videos
from anyorder.policies.sizes import check_weights
from tests.datasets.datasets_at_random import write_random
from tests.plugin import countdown  # noqa: F401  (joins the family of environments)
from tests.plugin.saved import policy, save
from tests.plugin.still import still_policy

register_env_types()


def env(**settings):
    return LeRobotEnvConfig.get_choice_class("anyorder_countdown")(**settings)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"state": (3,)}, "observation.state (3,)"),
        ({"state": (2,), "images.side": (3, 8, 16)}, "observation.images.side (3, 8, 16)"),
        ({"state": (2,), "images.top": (1, 8, 16)}, "observation.images.top (1, 8, 16)"),
        ({"fps": 24.0}, "control rate of the env: '30 Hz' given, allowed: 24 Hz"),
        ({"fps": 38.0}, "control rate of the env: '30 Hz' given, allowed: 38 Hz"),
    ],
)
def test_a_policy_that_does_not_fit_its_environment_is_refused_before_the_first_step(wanted, message):
    with pytest.raises(EnvError) as error:
        make_env_pre_post_processors(env(cameras=["top"]), still_policy(**wanted).config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wanted",
    [
        {"fps": 25.1},
        {"fps": 37.4},
        {"state": (2,)},
        {"state": (2,), "images.top": (3, 40, 80)},  # policies resize pictures
    ],
)
def test_a_policy_that_fits_is_let_through(wanted):
    make_env_pre_post_processors(env(cameras=["top"]), still_policy(**wanted).config)


def test_an_action_of_another_size_is_refused():
    config = still_policy().config
    config.output_features["action"].shape = (3,)
    with pytest.raises(EnvError, match=r"env action: \[2\] given, allowed: \(3,\)"):
        make_env_pre_post_processors(env(), config)


def test_a_policy_that_has_learnt_to_do_without_a_camera_may_lack_it():
    config = policy().config
    config.input_features = {
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 8, 16)),
    }
    with pytest.raises(EnvError, match=r"observation\.images\.top"):
        check_env(config, env())
    config.encoder.vision.dropout = 0.1
    check_env(config, env())


def test_a_dataset_that_a_fitted_policy_cannot_read_is_refused(lift_root):
    meta = LeRobotDatasetMetadata("local/lift", root=lift_root)
    fits = {"state": (6,), "environment_state": (5,)}
    config = still_policy(fps=30.0, **fits).config
    config.output_features["action"].shape = (6,)
    check_dataset(config, meta)
    with pytest.raises(DatasetError, match="fps of dataset local/lift: 60 given, allowed: 30 Hz"):
        check_dataset(config, SimpleNamespace(features=meta.features, fps=60, repo_id=meta.repo_id))
    config.input_features["observation.state"].shape = (7,)
    with pytest.raises(DatasetError, match=r"allowed: the policy\'s observation\.state \[7\]"):
        check_dataset(config, meta)


def test_weights_of_another_action_are_refused_by_name(tmp_path):
    file = save(policy("regression"), tmp_path / "policy") / "model.safetensors"
    config = policy("regression").config
    check_weights(lambda: AnyOrderPolicy(config), file)
    config.output_features["action"].shape = (5,)
    with pytest.raises(CheckpointError) as error:
        check_weights(lambda: AnyOrderPolicy(config), file)
    assert str(error.value) == "shape of action: [5] given, allowed: [2], as the policy was trained with"


FILM = "observation.images.film"


def lerobots_policy(root, meta=None, **settings):
    """What `lerobot-train` makes of a dataset."""
    meta = meta or LeRobotDatasetMetadata("local/random", root=root)
    features = dataset_to_policy_features(meta.features)
    config = AnyOrderConfig(
        input_features={name: feature for name, feature in features.items() if name != ACTION},
        output_features={ACTION: features[ACTION]},
        factorization="regression",
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        device="cpu",
        push_to_hub=False,
        **settings,
    )
    return AnyOrderPolicy(config, dataset_meta=meta)


def change(file, name, values_of):
    """Write other values into a column of a parquet file: those that ``values_of`` makes of the present ones."""
    rows = pq.read_table(file)
    column = rows.schema.get_field_index(name)
    values = pa.array(values_of(rows.column(column).to_pylist()), rows.schema.field(column).type)
    pq.write_table(rows.set_column(column, rows.schema.field(column), values), file)


def test_a_video_that_cannot_be_read_is_named_before_the_first_step(tmp_path):
    root = tmp_path / "random"
    write_random(root, seed=0, lengths=[8, 9])
    config = lerobots_policy(root).config
    (video,) = (root / "videos").rglob("*.mp4")
    video.write_bytes(b"nonsense")
    message = f"video file: {str(video)!r} given, allowed: a whole video"
    with pytest.raises(DatasetError) as error:
        lerobots_policy(root)
    assert str(error.value).startswith(message)
    config.pretrained_path = tmp_path
    with pytest.raises(DatasetError) as error:
        AnyOrderPolicy(config, dataset_meta=LeRobotDatasetMetadata("local/random", root=root))
    assert str(error.value).startswith(message)
    del config.input_features[FILM]  # a policy that does not look at it
    check_videos(config, root)


def test_videos_that_were_not_downloaded_or_are_a_little_late_are_let_through(tmp_path):
    root = tmp_path / "random"
    write_random(root, seed=0, lengths=[8, 9])
    config = lerobots_policy(root).config
    (table,) = (root / "meta" / "episodes").rglob("*.parquet")
    change(table, f"videos/{FILM}/from_timestamp", lambda starts: [start + 0.01 for start in starts])
    check_videos(config, root)
    for video in (root / "videos").rglob("*.mp4"):
        video.unlink()
    check_videos(config, root)


def policy_of_episodes(root, episodes, **settings):
    """What `lerobot-train --dataset.episodes=...` makes: it hands on the metadata of its ``dataset`` alone."""
    dataset = LeRobotDataset("local/random", root=root, episodes=episodes)
    return lerobots_policy(root, dataset.meta, **settings)


def test_a_policy_is_fitted_to_the_episodes_that_are_trained_on(tmp_path):
    root = tmp_path / "random"
    write_random(root, seed=0, lengths=[8, 9, 7], cameras={})
    (file,) = (root / "data").rglob("*.parquet")
    rows = pq.read_table(file)
    actions, episode = rows["action"].to_pylist(), np.array(rows["episode_index"].to_pylist())
    actions[8 + 2][1] = float("nan")
    change(file, "action", lambda _: actions)
    for episodes in (None, [1, 2]):
        with pytest.raises(DatasetError) as error:
            policy_of_episodes(root, episodes, chunk_size=4, n_action_steps=4)
        assert str(error.value) == (
            "action in episode 1, frame 2: nan given, allowed: finite numbers; --dataset.episodes='[...]' names those "
            "to keep, without 1"
        )
    made = policy_of_episodes(root, [0, 2], chunk_size=4, n_action_steps=4)
    state = np.array(rows["observation.state"].to_pylist())[episode != 1]
    normalized = made.normalizers["observation_state"](torch.tensor(state, dtype=torch.float32))
    assert normalized.mean(0).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert normalized.std(0, correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_a_video_of_an_episode_that_is_not_trained_on_is_not_looked_at(tmp_path):
    root = tmp_path / "random"
    write_random(root, seed=0, lengths=[8, 9])
    config = lerobots_policy(root).config
    (table,) = (root / "meta" / "episodes").rglob("*.parquet")
    change(table, f"videos/{FILM}/from_timestamp", lambda starts: [starts[0], 100.0])
    with pytest.raises(DatasetError):
        check_videos(config, root)
    check_videos(config, root, [0])
