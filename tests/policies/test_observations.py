"""What a policy observes: cameras, histories, point clouds, task language."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.factory import make_policy
from safetensors.torch import save_file

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.statistics import Statistics
from anyorder.errors import ConfigError, DatasetError
from anyorder.networks import EncoderConfig, TransformerConfig, VisionConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import fit, pooled
from anyorder.training.checkpoint import load_policy

HORIZON = 4
CAMERA = "observation.images.top"
SHAPES = {"observation.state": (3,), CAMERA: (3, 24, 32), "observation.points": (10, 3)}


def observation(rows=4, moments=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    lead = (rows,) if moments is None else (rows, moments)
    batch = {name: torch.rand(*lead, *shape, generator=generator) for name, shape in SHAPES.items()}
    return {**batch, "task": ["Lift.", "Push."] * (rows // 2) + ["Lift."] * (rows % 2)}


def settings(**changes):
    vision = VisionConfig(width=16, features=8, keypoints=4, **changes.pop("vision", {}))
    defaults = {
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (2,))},
        "device": "cpu",
        "chunk_size": HORIZON,
        "n_action_steps": 2,
        "factorization": "regression",
        "network": TransformerConfig(16, 1, 2),
        "encoder": EncoderConfig(2, 16, vision=vision),
        "push_to_hub": False,
    }
    return AnyOrderConfig(**{**defaults, **changes})


def make(**changes):
    kinds = {CAMERA: FeatureType.VISUAL}
    features = {name: PolicyFeature(kinds.get(name, FeatureType.STATE), s) for name, s in SHAPES.items()}
    config = settings(input_features=features, **changes)
    many = observation(50)
    statistics = {name: Statistics.of(many[name].numpy()).as_lerobot() for name in SHAPES if name != CAMERA}
    batch = {**many, "action": torch.rand(50, HORIZON, 2, generator=torch.Generator().manual_seed(2))}
    torch.manual_seed(0)
    policy = AnyOrderPolicy(config, fit(config, statistics, batch, fps=30.0, tasks=["Lift.", "Push."]))
    with torch.no_grad():  # regression's last layer starts at zero
        policy.network.value_out.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(3))
    return policy


@pytest.mark.parametrize("name", [*SHAPES, "task"])
@pytest.mark.parametrize("moments", [1, 3])
def test_actions_depend_on_every_observation_at_every_moment(name, moments):
    policy = make(n_obs_steps=moments)
    before = observation(4, moments if moments > 1 else None)
    first = policy.predict_action_chunk(before)
    if name == "task":
        afters = [{**before, "task": before["task"][::-1]}]
    elif moments == 1:
        afters = [{**before, name: before[name].flip(0)}]
    else:
        afters = [{**before, name: before[name].clone()} for _ in range(moments)]
        for moment, after in enumerate(afters):
            after[name][:, moment] = after[name][:, moment].flip(0)
    for after in afters:
        assert ((policy.predict_action_chunk(after) - first).flatten(1).abs().amax(1) > 1e-6).all()


def test_one_moment_stands_for_a_history_that_never_moved():
    policy = make(n_obs_steps=3)
    still = observation()
    history = {k: v.unsqueeze(1).expand(-1, 3, *v.shape[1:]) if k in SHAPES else v for k, v in still.items()}
    assert torch.equal(policy.predict_action_chunk(still), policy.predict_action_chunk(history))
    with pytest.raises(ConfigError, match=r"shape of observation\.state: \(4, 2, 3\) given.*n_obs_steps is 3"):
        policy.predict_action_chunk({**still, "observation.state": torch.zeros(4, 2, 3)})


def test_select_action_keeps_the_history_itself():
    policy = make(n_obs_steps=3, n_action_steps=2)
    moments = [observation(seed=seed) for seed in range(4)]
    actions = [policy.select_action(dict(moment)) for moment in moments]
    third = {name: torch.stack([moments[i][name] for i in (0, 1, 2)], 1) for name in SHAPES}
    first = {name: moments[0][name].unsqueeze(1).expand(-1, 3, *SHAPES[name]) for name in SHAPES}
    for at, seen in ((0, first), (2, third)):
        chunk = policy.predict_action_chunk({**seen, "task": moments[0]["task"]})
        assert torch.equal(actions[at], chunk[:, 0])
        assert torch.equal(actions[at + 1], chunk[:, 1])
    policy.reset()
    assert torch.equal(policy.select_action(moments[0]), actions[0])


def test_points_have_no_order_and_share_their_statistics():
    policy = make()
    batch = observation()
    name = "observation.points"
    shuffled = {**batch, name: batch[name][:, torch.randperm(10, generator=torch.Generator().manual_seed(0))]}
    torch.testing.assert_close(policy.predict_action_chunk(batch), policy.predict_action_chunk(shuffled))
    clouds = np.random.default_rng(0).normal(size=(40, 10, 3)) + np.arange(10)[:, None]
    together = Statistics.of(clouds.reshape(-1, 3)).as_lerobot()
    found = pooled(Statistics.of(clouds).as_lerobot())
    for kind in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(found[kind], together[kind], rtol=1e-6)


def test_a_camera_may_be_missing_where_the_policy_was_trained_for_it():
    batch = observation()
    blind = {k: v for k, v in batch.items() if k != CAMERA}
    with pytest.raises(ConfigError, match="observation without"):
        make().predict_action_chunk(blind)
    policy = make(vision={"dropout": 0.5})
    assert CAMERA not in policy.required_features
    flagged = {**batch, f"{CAMERA}_is_missing": torch.ones(4, dtype=torch.bool)}
    assert torch.equal(policy.predict_action_chunk(blind), policy.predict_action_chunk(flagged))
    assert not torch.equal(policy.predict_action_chunk(blind), policy.predict_action_chunk(batch))


def test_pictures_of_another_size_are_brought_to_the_policys():
    policy = make()
    batch = observation()
    large = {**batch, CAMERA: batch[CAMERA].repeat_interleave(2, -1).repeat_interleave(2, -2)}
    torch.testing.assert_close(
        policy.predict_action_chunk(large), policy.predict_action_chunk(batch), atol=0.05, rtol=0
    )


def test_everything_travels_in_the_checkpoint(tmp_path):
    policy = make(n_obs_steps=2, vision={"backbone": "vit", "crop": 0.9})
    policy.save_pretrained(tmp_path)
    loaded = load_policy(tmp_path, "cpu")
    assert loaded.config.encoder == policy.config.encoder
    assert torch.equal(policy.predict_action_chunk(observation()), loaded.predict_action_chunk(observation()))


@pytest.mark.parametrize("family", ["autoregressive", "regression"])
def test_lerobots_factory_makes_a_policy_fitted_to_the_dataset(pictures_root, family):
    dataset = LeRobotDataset("local/two", root=pictures_root)
    options = {"factorization": family, "relative_actions": True}
    if family == "autoregressive":
        options |= {"tokenizer": "fast", "tokenizer_options": {"vocab_size": 100}}
    torch.manual_seed(0)
    stock = make_policy(settings(**options), ds_meta=dataset.meta)
    assert stock.config.observation_spec.cameras == {CAMERA: (3, 24, 32)}
    assert stock.config.tasks == ["Lift.", "Push."]
    assert stock.config.encoder.language == "table"
    assert stock.config.action_reference == [1, -1]
    assert stock.config.fps == 30
    chunks = ActionChunks.load(dataset.root, horizon=HORIZON)
    batch = chunks.batch(torch.arange(chunks.frames))
    values = stock.codec.normalize(batch)
    assert values.abs().amax() == pytest.approx(1, abs=1e-6)
    low, high = values.flatten(0, 1).aminmax(dim=0)
    torch.testing.assert_close(-low, high)  # min and max are exact, of all chunks
    if stock.tokenizer is not None:
        decoded = stock.tokenizer.decode(stock.codec.encode(batch))
        assert (decoded - values).square().mean() < 1e-2

    with pytest.raises(ConfigError, match=r"policy\.fps: 30 given, allowed: null"):
        make_policy(stock.config, ds_meta=dataset.meta)  # was fitted, and is no checkpoint


def test_only_what_is_read_must_be_sound_and_only_what_is_on_disk_is_needed(pictures_root, tmp_path):
    root = shutil.copytree(pictures_root, tmp_path / "damaged")
    (file,) = root.glob("data/*/*.parquet")
    table = pq.read_table(file)
    state = table["observation.state"].to_pylist()
    state[0] = [float("nan"), 0.0]
    column = pa.array(state, table.schema.field("observation.state").type)
    table = table.set_column(table.schema.get_field_index("observation.state"), "observation.state", column)
    pq.write_table(table, file)
    meta = LeRobotDatasetMetadata("local/two", root=root)
    with pytest.raises(DatasetError, match=r"observation\.state in episode 0, frame 0: nan"):
        make_policy(settings(), ds_meta=meta)
    camera = {CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 24, 32))}
    assert make_policy(settings(input_features=camera), ds_meta=meta).fps == 30
    pq.write_table(table.slice(12), file)  # the first episode was not downloaded
    policy = make_policy(settings(), ds_meta=meta)
    assert policy.normalizer("observation.state").radius.min() > 0
    other = {"observation.stat": PolicyFeature(FeatureType.STATE, (2,))}
    with pytest.raises(DatasetError, match=r"observation\.stat.*did you mean"):
        make_policy(settings(input_features=other), ds_meta=meta)


@pytest.mark.parametrize("moments", [1, 2])
def test_vectors_and_actions_of_one_number(moments):
    """LeRobot's loader gives them without an axis of their own."""
    features = {"observation.grip": PolicyFeature(FeatureType.STATE, (1,))}
    action = {"action": PolicyFeature(FeatureType.ACTION, (1,))}
    generator = torch.Generator().manual_seed(0)
    grip = torch.rand((20,) if moments == 1 else (20, moments), generator=generator)
    batch = {"observation.grip": grip, "action": torch.rand(20, HORIZON, generator=generator)}
    statistics = {"observation.grip": Statistics.of(grip.numpy().reshape(20, -1)[:, 0]).as_lerobot()}
    config = settings(input_features=features, output_features=action, n_obs_steps=moments)
    policy = AnyOrderPolicy(config, fit(config, statistics, batch, fps=30.0))
    loss, _ = policy(batch)
    assert torch.isfinite(loss)
    with_axis = {"observation.grip": grip.unsqueeze(-1), "action": batch["action"].unsqueeze(-1)}
    assert torch.equal(policy(with_axis)[0], loss)
    assert policy.predict_action_chunk(batch).shape == (20, HORIZON, 1)


def test_a_camera_that_comes_and_goes():
    policy = make(n_obs_steps=2, n_action_steps=1, vision={"dropout": 0.2})
    seen = observation()
    blind = {k: v for k, v in seen.items() if k != CAMERA}
    actions = [policy.select_action(dict(moment)) for moment in (seen, blind, seen, seen)]
    assert torch.isfinite(torch.stack(actions)).all()


def test_a_shared_backbone_travels_in_the_checkpoint(tmp_path):
    features = {f"observation.images.{n}": PolicyFeature(FeatureType.VISUAL, (3, 24, 32)) for n in "ab"}
    vision = VisionConfig(width=16, features=8, keypoints=4, shared=True)
    config = settings(input_features=features, encoder=EncoderConfig(2, 16, vision=vision))
    batch = {name: torch.rand(3, 3, 24, 32) for name in features}
    policy = AnyOrderPolicy(config, fit(config, {}, {"action": torch.rand(9, HORIZON, 2)}, fps=30.0))
    policy.save_pretrained(tmp_path)
    save_file(policy.state_dict(), tmp_path / "weights.safetensors")  # as checkpoints for resuming do
    loaded = load_policy(tmp_path, "cpu")
    assert torch.equal(policy.predict_action_chunk(batch), loaded.predict_action_chunk(batch))
