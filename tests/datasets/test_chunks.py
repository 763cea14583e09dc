import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anyorder.datasets import ActionChunks, record
from anyorder.datasets.read.episodes import EpisodeChoice, tiles
from anyorder.datasets.read.folder import resolve_root
from anyorder.errors import DatasetError
from anyorder.training.order import BatchOrder
from tests.datasets.toy_env import ToyConfig

FPS = 20


def lerobot_dataset(root, horizon, episodes=None):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [step / FPS for step in range(horizon)]}
    return LeRobotDataset("local/toy", root=root, episodes=episodes, delta_timestamps=deltas, video_backend="pyav")


def assert_same(batch, reference):
    assert set(batch) == set(reference)
    assert batch.pop("task") == reference.pop("task")
    for key, values in reference.items():
        assert batch[key].dtype == values.dtype, key
        assert torch.equal(batch[key], values), key


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory):
    """A dataset with every kind of numeric column, two tasks and no state."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.utils.utils import SuppressProgressBars

    features = {
        "action": {"dtype": "float64", "shape": (2,), "names": {"motors": ["a", "b"]}},
        "observation.environment_state": {"dtype": "float32", "shape": (2, 3), "names": None},
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        "next.done": {"dtype": "bool", "shape": (1,), "names": None},
        "buttons": {"dtype": "int64", "shape": (2,), "names": ["left", "right"]},
    }
    root = tmp_path_factory.mktemp("odd") / "odd"
    dataset = LeRobotDataset.create("local/odd", FPS, features, root=root, use_videos=False, video_backend="pyav")
    random = np.random.default_rng(0)
    with SuppressProgressBars():
        for length in (3, 7, 5):
            for step in range(length):
                frame = {
                    "action": random.normal(size=2),
                    "observation.environment_state": random.normal(size=(2, 3)).astype(np.float32),
                    "next.reward": random.normal(size=1).astype(np.float32),
                    "next.done": np.array([step == length - 1]),
                    "buttons": random.integers(0, 9, size=2),
                    "task": f"Play {length % 2}.",
                }
                dataset.add_frame(frame)
            dataset.save_episode()
        dataset.finalize()
    return root


@pytest.mark.parametrize("horizon", [1, 5, 12])
def test_every_frame_is_bit_identical_to_lerobot(toy_root, horizon):
    dataset = lerobot_dataset(toy_root, horizon)
    chunks = ActionChunks.load(toy_root, horizon=horizon)
    assert len(chunks) == len(dataset)
    reference = torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])
    assert_same(chunks.batch(torch.arange(len(chunks))), reference)


@pytest.fixture(scope="module")
def both(toy_root):
    episodes = [1, 4, 11]
    return ActionChunks.load(toy_root, horizon=9, choice=EpisodeChoice(episodes)), lerobot_dataset(
        toy_root, 9, episodes
    )


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_batch_is_what_lerobots_loader_collates(both, data):
    chunks, dataset = both
    rows = data.draw(st.lists(st.integers(0, len(chunks) - 1), min_size=1, max_size=8))
    loader = torch.utils.data.DataLoader(dataset, batch_sampler=[rows])
    assert_same(chunks.batch(rows), next(iter(loader)))


def test_every_kind_of_column(odd_root):
    dataset = lerobot_dataset(odd_root, 2)
    chunks = ActionChunks.load(odd_root, horizon=2)
    reference = torch.utils.data.default_collate([dataset[i] for i in range(len(dataset))])
    assert_same(chunks.batch(range(len(chunks))), reference)
    assert chunks.tasks == ["Play 1."]
    assert chunks.action_names == ["a", "b"]
    assert chunks.names["observation.environment_state"] == ["0", "1", "2", "3", "4", "5"]
    assert chunks.shapes["observation.environment_state"] == (2, 3)


def test_one_frame_and_a_data_loader(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    dataset = lerobot_dataset(toy_root, 4)
    assert_same({**chunks[30], "task": chunks[30]["task"]}, dataset[30])
    loader = torch.utils.data.DataLoader(chunks, batch_size=64, collate_fn=ActionChunks.collate)
    batches = list(loader)
    assert sum(len(batch["action"]) for batch in batches) == len(chunks)
    assert torch.equal(batches[1]["action"], chunks.batch(range(64, 128))["action"])


def test_images_come_from_lerobot_when_asked_for(video_root):
    dataset = lerobot_dataset(video_root, 3)
    chunks = ActionChunks.load(video_root, horizon=3, images=True)
    rows = [0, 5, len(chunks) - 1]
    assert_same(chunks.batch(rows), torch.utils.data.default_collate([dataset[i] for i in rows]))
    assert chunks.shapes["observation.images.top"] == (3, 32, 32)
    without = ActionChunks.load(video_root, horizon=3)
    assert "observation.images.top" not in without.batch(rows)
    part = ActionChunks.load(video_root, horizon=3, choice=EpisodeChoice([1]), images=True)
    image = part.batch([0])["observation.images.top"][0]
    assert torch.equal(image, dataset[int(part.columns["index"][0])]["observation.images.top"])


def test_images_in_worker_processes(video_root):
    chunks = ActionChunks.load(video_root, horizon=3, images=True)
    chunks.batch([0])
    loader = torch.utils.data.DataLoader(
        chunks, batch_size=4, num_workers=1, collate_fn=ActionChunks.collate, multiprocessing_context="fork"
    )
    assert torch.equal(next(iter(loader))["observation.images.top"], chunks.batch(range(4))["observation.images.top"])


def test_numbers_about_the_data(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    assert chunks.fps == 20
    assert chunks.episodes == 12
    assert chunks.frames == int(chunks.lengths.sum())
    assert chunks.minutes == pytest.approx(chunks.frames / 20 / 60)
    assert chunks.tasks == ["Walk to the goal."]
    assert chunks.shapes["observation.state"] == (3,)
    assert chunks.action_names == ["dx", "dy"]
    assert chunks.starts.tolist() == [0, *torch.cumsum(chunks.lengths, 0)[:-1].tolist()]
    assert chunks.constant_dimensions == {}
    assert chunks.subset(1).constant_dimensions == {"observation.environment_state": ["goal.x", "goal.y"]}


def test_only_the_features_asked_for(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4, features=["observation.state"])
    assert set(chunks.names) == {"observation.state", "action"}
    with pytest.raises(DatasetError, match=r"feature: 'observation.stat' given, .* did you mean 'observation.state'"):
        ActionChunks.load(toy_root, horizon=4, features=["observation.stat"])


def test_subsets_are_reproducible_and_nested(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    for seed in range(5):
        for smaller in range(1, 12):
            few, more = chunks.subset(smaller, seed), chunks.subset(smaller + 1, seed)
            assert set(few.episode_ids) < set(more.episode_ids)
            assert few.episodes == smaller
    assert chunks.subset(4, seed=1).episode_ids == chunks.subset(4, seed=1).episode_ids
    assert len({tuple(chunks.subset(4, seed=seed).episode_ids) for seed in range(9)}) > 5
    assert (
        ActionChunks.load(toy_root, horizon=4, choice=EpisodeChoice(4, seed=1)).episode_ids
        == chunks.subset(4, 1).episode_ids
    )
    assert chunks.subset([7, 2]).episode_ids == [2, 7]
    assert chunks.subset([7, 2]).columns["frame_index"].tolist() == [
        i for episode in (2, 7) for i in range(int(chunks.lengths[episode]))
    ]


def test_a_split_shares_no_episode(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    train, validation = chunks.split(0.25, seed=3)
    assert (train.episodes, validation.episodes) == (9, 3)
    assert set(train.episode_ids) | set(validation.episode_ids) == set(range(12))
    assert chunks.split(0.25, seed=3)[1].episode_ids == validation.episode_ids
    assert chunks.split(0.001)[1].episodes == 1
    assert chunks.split(0.999)[0].episodes == 1
    with pytest.raises(DatasetError, match=r"validation_fraction: 1\.0 given"):
        chunks.split(1.0)
    with pytest.raises(DatasetError, match=r"episodes: 1 given, allowed: at least 2.*validation_fraction=0"):
        chunks.subset(1).split(0.5)


def test_a_policy_epoch_starts_at_every_frame(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    rows = BatchOrder(chunks.frames, len(chunks), seed=0).rows(0)
    assert sorted(rows.tolist()) == list(range(len(chunks)))
    assert torch.equal(rows, BatchOrder(chunks.frames, len(chunks), seed=0).rows(0))
    assert rows.tolist() != sorted(rows.tolist())


def token_epoch(chunks, seed):
    return tiles(chunks.starts, chunks.lengths, chunks.horizon, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("horizon", [1, 2, 7, 12, 30])
def test_a_token_epoch_predicts_every_action_once(toy_root, horizon):
    chunks = ActionChunks.load(toy_root, horizon=horizon, allow_short=True)
    for seed in range(20):
        rows, counted = token_epoch(chunks, seed)
        batch = chunks.batch(rows)
        # What another chunk of the same epoch predicts does not count in this one.
        valid_steps = ~batch["action_is_pad"] & (torch.arange(horizon) < counted[:, None])
        times = torch.zeros(len(chunks), dtype=torch.int64)
        for row, valid in zip(rows.tolist(), valid_steps.sum(dim=1).tolist(), strict=True):
            times[row : row + valid] += 1
        assert times.tolist() == [1] * len(chunks)
        assert int(valid_steps.sum()) == chunks.frames


@pytest.mark.parametrize("horizon", [1, 2, 7, 12, 30])
def test_a_token_epoch_begins_at_every_offset(toy_root, horizon):
    """The first chunk of an episode counts 1 to ``horizon`` of its frames, each as often as another."""
    chunks = ActionChunks.load(toy_root, horizon=horizon, allow_short=True)
    first = int(chunks.lengths[0])
    offsets = []
    for seed in range(300):
        rows, _ = token_epoch(chunks, seed)
        offsets.append(int(rows[rows > 0].min()))
    assert set(offsets) == set(range(1, min(horizon, first) + 1))
    count = offsets.count(1)
    assert abs(count - 300 / horizon) <= 4 * (300 / horizon) ** 0.5


def test_a_token_epoch_has_as_many_chunks_as_expected_on_average(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=10)
    counts = [len(token_epoch(chunks, seed)[0]) for seed in range(300)]
    expected = sum(length / 10 + 9 / 10 for length in chunks.lengths.tolist())
    assert np.mean(counts) == pytest.approx(expected, rel=0.01)


def test_moving_to_a_device_keeps_the_values(toy_root):
    chunks = ActionChunks.load(toy_root, horizon=4)
    moved = chunks.to("meta")
    assert moved.columns["action"].device.type == "meta"
    assert chunks.columns["action"].device.type == "cpu"
    assert torch.equal(chunks.to("cpu").batch([3])["action"], chunks.batch([3])["action"])


# --- damaged or unfit data: one line each ---------------------------------------------------------------------------


@pytest.fixture
def copied(toy_root, tmp_path):
    shutil.copytree(toy_root, tmp_path / "copy", ignore=shutil.ignore_patterns("SHA256SUMS"))
    return tmp_path / "copy"


def edit_info(root, **changes):
    path = root / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_column(root, key, row, values):
    path = sorted((root / "data").glob("*/*"))[1]
    table = pq.read_table(path)
    rows = table.column(key).to_pylist()
    rows[row] = values
    column = pa.array(rows, table.schema.field(key).type)
    pq.write_table(table.set_column(table.schema.get_field_index(key), key, column), path)
    return table.column("episode_index")[row].as_py(), table.column("frame_index")[row].as_py()


def load_error(root, **options):
    with pytest.raises(DatasetError) as caught:
        ActionChunks.load(root, **{"horizon": 4, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_folder(tmp_path):
    given = f"dataset.root: {str(tmp_path / 'no')!r} given"
    assert load_error(tmp_path / "no") == f"{given}, allowed: the folder of a LeRobot dataset"
    assert "its meta/info.json cannot be read" in load_error(tmp_path)
    allowed = "a dataset folder, or dataset.repo_id with its name on the hub"
    with pytest.raises(DatasetError) as caught:
        resolve_root(None, None, images=False)
    assert str(caught.value) == f"dataset.root: None given, allowed: {allowed}"


def test_an_older_version_names_the_converter(copied):
    edit_info(copied, codebase_version="v2.1")
    message = load_error(copied)
    assert message.startswith("dataset version: 'v2.1' given, allowed: v3.0")
    assert f"anyorder convert source={copied} root=" in message


def test_a_truncated_file_is_named(copied):
    path = sorted((copied / "data").glob("*/*"))[0]
    path.write_bytes(path.read_bytes()[:-40])
    assert load_error(copied).startswith(f"dataset file: {str(path)!r} given, allowed: a whole parquet file")


def test_missing_frames(copied):
    sorted((copied / "data").glob("*/*"))[1].unlink()
    assert "dataset frames: " in load_error(copied)
    shutil.rmtree(copied / "data")
    assert "dataset files: " in load_error(copied)


def test_a_missing_column(copied):
    edit_info(
        copied,
        features={
            **json.loads((copied / "meta/info.json").read_text())["features"],
            "x": {"dtype": "float32", "shape": [1], "names": None},
        },
    )
    assert "a file with the columns ['x']" in load_error(copied)
    assert ActionChunks.load(copied, horizon=4, features=["observation.state"]).frames


def test_a_damaged_task_table(copied):
    (copied / "meta" / "tasks.parquet").write_bytes(b"PAR1")
    assert "tasks.parquet" in load_error(copied)


def test_no_actions(copied):
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    del features["action"]
    edit_info(copied, features=features)
    assert "features with an 'action'" in load_error(copied)


@pytest.mark.parametrize(
    ("key", "values", "shown"),
    [("action", [0.5, float("nan")], "nan"), ("observation.state", [float("inf"), 0.0, 0.0], "inf")],
)
def test_a_value_that_is_not_finite_is_located(copied, key, values, shown):
    episode, frame = edit_column(copied, key, 17, values)
    expected = f"{key} in episode {episode}, frame {frame}: {shown} given, allowed: finite numbers"
    assert load_error(copied).startswith(expected)
    assert f"dataset.exclude_episodes=[{episode}]" in load_error(copied)
    others = [e for e in range(12) if e != episode]
    assert ActionChunks.load(copied, horizon=4, choice=EpisodeChoice(others)).episodes == 11


def test_an_episode_shorter_than_a_chunk(toy_root):
    lengths = ActionChunks.load(toy_root, horizon=1).lengths
    horizon = int(lengths.min()) + 1
    episode = int((lengths < horizon).nonzero()[0])
    message = load_error(toy_root, horizon=horizon)
    assert message.startswith(
        f"frames of episode {episode}: {horizon - 1} given, allowed: at least chunk_size={horizon}"
    )
    assert "dataset.allow_short=true" in message
    chunks = ActionChunks.load(toy_root, horizon=horizon, allow_short=True)
    assert chunks.batch(chunks.starts[episode : episode + 1])["action_is_pad"].sum() == 1
    longest = int(lengths.max())
    assert ActionChunks.load(toy_root, horizon=longest, allow_short=True).horizon == longest
    assert "at most" in load_error(toy_root, horizon=longest + 1, allow_short=True)
    assert "frames of episode 0" in load_error(toy_root, horizon=longest + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"horizon": 0}, "chunk_size: 0 given, allowed: an integer >= 1"),
        ({"choice": EpisodeChoice(13)}, "dataset.episodes: 13 given, allowed: 1 ... 12, what the dataset has"),
        ({"choice": EpisodeChoice(0)}, "dataset.episodes: 0 given"),
        (
            {"choice": EpisodeChoice([3, 12])},
            "dataset.episodes: [12] given, allowed: a list out of the dataset's 12 episodes",
        ),
        ({"choice": EpisodeChoice([])}, "dataset.episodes: [] given"),
    ],
)
def test_unfit_requests(toy_root, options, message):
    assert load_error(toy_root, **options).startswith(message)


def test_an_empty_dataset(copied):
    edit_info(copied, total_episodes=0)
    assert load_error(copied) == "dataset episodes: 0 given, allowed: at least one episode"


def test_an_unknown_name_on_the_hub(monkeypatch, tmp_path):
    from lerobot.utils import constants

    monkeypatch.setattr(constants, "HF_LEROBOT_HOME", tmp_path)
    with pytest.raises(DatasetError) as caught:
        resolve_root(None, "nobody/nothing-of-this-name", images=False)
    assert str(caught.value).startswith("dataset.repo_id: 'nobody/nothing-of-this-name' given")


def test_a_name_in_lerobots_cache(monkeypatch, tmp_path):
    from lerobot.utils import constants

    monkeypatch.setattr(constants, "HF_LEROBOT_HOME", tmp_path)
    record(ToyConfig(), tmp_path / "me" / "toy", episodes=1)
    assert ActionChunks.load(resolve_root(None, "me/toy", images=False), horizon=4).episodes == 1
