"""Datasets as people have them: odd, and either read rightly or refused in one line."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anyorder.datasets import ActionChunks
from anyorder.datasets.read.episodes import EpisodeChoice
from anyorder.datasets.read.folder import read_info
from anyorder.datasets.read.metadata import file_of
from anyorder.datasets.read.remarks import remarks
from anyorder.errors import ConfigError, DatasetError, UserError
from anyorder.policies.codec import action_reference
from anyorder.training.config import DatasetConfig, MixEntry
from anyorder.training.data import load_chunks
from tests.datasets import handmade
from tests.datasets.handmade import CAMERA, JOINTS, edit_info, feature, smooth, write


def refused(call, error=UserError):
    """The one line that a call ends in."""
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(root, cache_gb=None, exclude=(), **options):
    choice = EpisodeChoice(exclude=exclude)
    chunks = ActionChunks.load(root, **{"horizon": 4, "choice": choice, **options})
    chunks.cache(cache_gb)
    return chunks


def both(root, **options):
    """All chunks of a dataset, read as `anyorder train` does."""
    return load_chunks(DatasetConfig(root=str(root), validation_fraction=0, **options), 4)[0]


# --- which row has which picture ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [
        [np.arange(6)] * 3,
        [1000 + np.arange(6) + 6 * e for e in range(3)],
        [np.arange(18)[::-1][6 * e : 6 * e + 6] for e in range(3)],
        [np.full(6, -1)] * 3,
        [[None] * 6] * 3,
        [["a"] * 6] * 3,
        [np.full(6, np.nan)] * 3,
    ],
    ids=["restarts", "offset", "backwards", "negative", "nothing", "text", "nan"],
)
@pytest.mark.parametrize("cache_gb", [None, 0])
def test_a_rows_picture_is_that_rows_whatever_index_says(tmp_path, index, cache_gb):
    columns = {CAMERA: lambda e, n: [handmade.png(10 * (6 * e + i)) for i in range(n)]}
    root = write(tmp_path / "d", [6] * 3, columns, {CAMERA: handmade.camera("image")}, index=index)
    chunks = load(root, images=True, cache_gb=cache_gb)
    pictures = chunks.batch(torch.arange(18), raw=True)[CAMERA]
    assert pictures.flatten(1).float().mean(1).tolist() == [10.0 * i for i in range(18)]
    part = load(root, images=True, cache_gb=cache_gb, exclude=[0])
    assert torch.equal(part.batch(torch.arange(12), raw=True)[CAMERA], pictures[6:])


def test_pictures_keep_their_rows_behind_a_recording_that_was_cut_off(tmp_path):
    """Rows of an episode that was never finished lie before those of one that was."""
    columns = {CAMERA: lambda e, n: [handmade.png(10 * (6 * e + i)) for i in range(n)]}
    features = {CAMERA: handmade.camera("image")}
    root = write(tmp_path / "d", [6] * 3, columns, features, numbers=[0, 2, 1])
    edit_info(root, lambda info: info.update(total_episodes=2, total_frames=12))
    pictures = load(root, images=True).batch(torch.arange(12), raw=True)[CAMERA]
    assert pictures[:, 0, 0, 0].tolist() == [10 * i for i in (*range(6), *range(12, 18))]


def test_two_episodes_of_one_number_do_not_run_into_each_other(tmp_path):
    root = write(tmp_path / "next", numbers=[0, 1, 1, 2])
    assert "rows of episode 1: frame 0 after frame 11" in refused(lambda: load(root))
    assert load(root, exclude=[1]).lengths.tolist() == [12, 12]
    apart = write(tmp_path / "apart", numbers=[0, 1, 0, 2])
    assert "rows of episode 0: 2 parts" in refused(lambda: load(apart))


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda names: names,
        lambda names: [names],
        lambda names: {"motors": names},
        lambda names: {"axes": [names]},
        lambda names: {name: names.index(name) for name in sorted(names)},
        lambda names: {"motors": {name: names.index(name) for name in reversed(names)}},
        lambda names: [[name] for name in names],
    ],
)
def test_every_form_of_names_pairs_relative_actions_by_name(tmp_path, form):
    order = ["grip", "pan", "lift"]
    features = {"action": feature("float32", [3], form(JOINTS))}
    features["observation.state"] = feature("float32", [3], form(order))
    chunks = load(write(tmp_path / "d", features=features))
    assert chunks.action_names == JOINTS
    assert chunks.given_names == {"action": JOINTS, "observation.state": order}
    assert action_reference(chunks.given_names) == [1, 2, 0]


@pytest.mark.parametrize(
    ("action", "state", "message"),
    [
        (None, None, "does not name the dimensions of observation.state"),
        (None, JOINTS, "does not name the dimensions of action"),
        (["0", "1", "2"], ["0", "1", "2"], "does not name the dimensions of"),
        (["pan", "lift"], JOINTS, "does not name the dimensions of action"),
        ({"pan": 0, "lift": 0, "grip": 1}, JOINTS, "does not name the dimensions of action"),
        (["pan", "pan", "grip"], JOINTS, "more than one dimension has the name 'pan'"),
        (["pan", "lift", "x"], ["pan", "pan", "lift"], "more than one dimension has the name 'pan'"),
        (["x", "y", "z"], JOINTS, r"no dimension of observation.state (pan, lift, grip) has the name of an"),
    ],
)
def test_relative_actions_without_a_name_for_each_are_refused(tmp_path, action, state, message):
    features = {"action": feature("float32", [3], action)}
    features["observation.state"] = feature("float32", [3], state)
    chunks = load(write(tmp_path / "d", features=features))
    assert message in refused(lambda: action_reference(chunks.given_names), ConfigError)
    # Numbers that only a table shows are never taken for names.
    assert len(chunks.names["action"]) == 3


def test_a_state_of_eight_for_an_action_of_seven(tmp_path):
    columns = {"action": lambda e, n: smooth(n, 7, e), "observation.state": lambda e, n: smooth(n, 8, e)}
    features = {"action": feature("float32", [7]), "observation.state": feature("float32", [8])}
    chunks = load(write(tmp_path / "d", columns=columns, features=features))
    assert "relative_actions: True given" in refused(lambda: action_reference(chunks.names), ConfigError)


# --- rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [29.97, 0.5, 30, 30.0, 1000])
def test_any_rate_is_kept(tmp_path, fps):
    chunks = load(write(tmp_path / "d", info={"fps": fps}))
    assert chunks.fps == fps
    assert chunks.minutes == pytest.approx(48 / fps / 60)


@pytest.mark.parametrize("fps", [0, -30, float("nan"), float("inf"), 1e300, "30", None, True, [30]])
def test_no_rate_at_all_is_refused(tmp_path, fps):
    root = write(tmp_path / "d", info={"fps": fps})
    assert f"fps in {root}/meta/info.json: {fps!r} given, allowed: a number" in refused(lambda: load(root))


# --- columns that nobody asked for ----------------------------------------------------------------------------------

ODD = {
    "nan": (feature("float32", [2]), lambda e, n: np.full((n, 2), np.nan, np.float32)),
    "nothing": (feature("float32", [2]), lambda e, n: [None] * 5 + [[1.0, 2.0]] * (n - 5)),
    "holes": (feature("int64", [2]), lambda e, n: [[1, None]] * n),
    "ragged": (feature("float32", [2]), lambda e, n: [[0.0] * (1 + i % 3) for i in range(n)]),
    "text": (feature("float32", [1]), lambda e, n: ["a"] * n),
    "of another shape": (feature("float32", [3]), lambda e, n: smooth(n, 2, e)),
    "not there": (feature("float32", [2]), None),
    "without a shape": ({"dtype": "float32", "shape": None}, lambda e, n: smooth(n, 2, e)),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["observation.odd", "next.reward"])
def test_a_column_is_only_read_where_it_is_used(tmp_path, kind, name):
    described, values = ODD[kind]
    columns = {} if values is None else {name: values}
    root = write(tmp_path / "d", columns=columns, features={name: described})
    plain = both(write(tmp_path / "plain"))
    chunks = both(root, observations=["observation.state"])
    assert set(chunks.names) == {"action", "observation.state"}
    assert torch.equal(chunks.batch([3])["action"], plain.batch([3])["action"])
    if name == "next.reward":
        assert both(root).frames == 48
    else:
        assert name in refused(lambda: both(root))


# --- booleans and tables --------------------------------------------------------------------------------------------


def test_booleans_and_tables_are_read_as_numbers_and_vectors(tmp_path):
    columns = {
        "action": lambda e, n: smooth(n, 6, e).reshape(n, 2, 3),
        "observation.state": lambda e, n: smooth(n, 3, e) > 0,
        "observation.table": lambda e, n: smooth(n, 8, e).reshape(n, 2, 4),
        "observation.points": lambda e, n: smooth(n, 12, e).reshape(n, 4, 3),
    }
    features = {
        "action": feature("float32", [2, 3], [["left", "right"], JOINTS]),
        "observation.state": feature("bool", [3], JOINTS),
        "observation.table": feature("float32", [2, 4]),
        "observation.points": feature("float32", [4, 3]),
    }
    chunks = both(write(tmp_path / "d", columns=columns, features=features))
    assert chunks.shapes == {
        "action": (6,),
        "observation.state": (3,),
        "observation.table": (8,),
        "observation.points": (4, 3),
    }
    batch = chunks.batch([5])
    assert torch.equal(batch["action"][0], torch.from_numpy(smooth(12, 6, 0)[5:9]))
    assert batch["observation.state"].tolist() == (smooth(12, 3, 0)[5:6] > 0).astype(float).tolist()
    assert chunks.action_names == [f"{arm}.{joint}" for arm in ("left", "right") for joint in JOINTS]


# --- which episodes, which names ------------------------------------------------------------------------------------


def test_episodes_are_chosen_and_left_out_by_number(tmp_path):
    root = write(tmp_path / "d", [5, 6, 7, 8])
    assert both(root, episodes=[3, 1]).lengths.tolist() == [6, 8]
    assert both(root, exclude_episodes=[1]).lengths.tolist() == [5, 7, 8]
    assert both(root, episodes=[2, 3], exclude_episodes=[0]).lengths.tolist() == [7, 8]
    assert both(root, episodes=3, exclude_episodes=[1]).lengths.tolist() == [5, 7, 8]
    for options, message in (
        ({"exclude_episodes": [4]}, "dataset.exclude_episodes: [4] given, allowed: some of the dataset's 4"),
        ({"exclude_episodes": [0, 1, 2, 3]}, "dataset.exclude_episodes: [0, 1, 2, 3] given"),
        ({"episodes": [1], "exclude_episodes": [1]}, "dataset.episodes: [1] given"),
        ({"episodes": [-1]}, "dataset.episodes: [-1] given"),
        ({"episodes": 4, "exclude_episodes": [1]}, "dataset.episodes: 4 given, allowed: 1 ... 3"),
    ):
        assert message in refused(lambda options=options: both(root, **options))


def test_a_bad_episode_that_is_left_out_stops_nothing(tmp_path):
    def values(episode, length):
        return smooth(length, 3, 0) if episode != 2 else np.full((length, 3), np.nan, np.float32)

    root = write(tmp_path / "d", columns={"action": values})
    assert "dataset.exclude_episodes=[2]" in refused(lambda: both(root))
    assert both(root, exclude_episodes=[2]).frames == 36
    mix = DatasetConfig(mix=[MixEntry(str(root)), MixEntry(str(root), exclude_episodes=[2])], validation_fraction=0)
    assert "exclude_episodes=[2] in its entry of dataset.mix" in refused(lambda: load_chunks(mix, 4))
    mix.mix[0].exclude_episodes = [2]
    assert load_chunks(mix, 4)[0].frames == 72


def test_features_are_renamed(tmp_path):
    root = write(tmp_path / "d")
    plain = both(root)

    def rename(info):
        info["features"]["actions"] = info["features"].pop("action")
        info["features"]["state"] = info["features"].pop("observation.state")

    edit_info(root, rename)
    (path,) = (root / "data").rglob("*.parquet")
    table = pq.read_table(path)
    names = {"action": "actions", "observation.state": "state"}
    pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    message = refused(lambda: both(root))
    assert "features with an 'action'" in message
    assert "dataset.rename={actions: action}" in message
    chunks = both(root, rename={"actions": "action", "state": "observation.state"})
    for key in ("action", "observation.state"):
        assert torch.equal(chunks.columns[key], plain.columns[key])
    for given, message in (
        ({"action": "actions"}, "dataset.rename: 'action' given, allowed: "),
        ({"actions": "state"}, "dataset.rename of actions: 'state' given"),
        ({"actions": "x", "state": "x"}, "dataset.rename of actions: 'x' given"),
        ({"actions": "index"}, "dataset.rename of actions: 'index' given"),
    ):
        assert message in refused(lambda given=given: both(root, rename=given))


def test_no_validation_split(tmp_path):
    train, held_out = load_chunks(DatasetConfig(root=str(write(tmp_path / "d", [12])), validation_fraction=0), 4)
    assert (train.episodes, train.frames, held_out.episodes, held_out.frames) == (1, 12, 0, 0)
    for wrong in (1.0, -0.1, float("nan")):
        assert "validation_fraction" in refused(lambda wrong=wrong: DatasetConfig("d", validation_fraction=wrong))


# --- numbers of episodes, hidden files, what Git left ---------------------------------------------------------------


def test_gaps_in_the_numbers_of_episodes(tmp_path):
    root = write(tmp_path / "d", [12] * 6, numbers=[0, 1, 2, 5, 6, 7])
    chunks = load(root)
    assert chunks.episode_ids == [0, 1, 2, 5, 6, 7]
    assert "gaps (3, 4)" in remarks(chunks)[0]
    edit_info(root, lambda info: info.update(total_frames=96))
    message = refused(lambda: load(root))
    assert "dataset frames: 60 given, allowed: 96" not in message or "3, 4" in message
    assert message.endswith("these are missing: 3, 4")


def test_hidden_files_are_skipped(tmp_path):
    root = write(tmp_path / "d")
    (root / "data" / "chunk-000" / "._file-000.parquet").write_bytes(b"Mac OS X")
    (root / "data" / "chunk-000" / ".DS_Store").write_bytes(b"Bud1")
    (root / "data" / ".chunk-001").mkdir()
    (root / "data" / ".chunk-001" / "file-000.parquet").write_bytes(b"")
    handmade.films(root, [1.2 * e for e in range(4)])
    (root / "meta" / "episodes" / "chunk-000" / "._file-000.parquet").write_bytes(b"Mac OS X")
    assert load(root, images=True).frames == 48


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


@pytest.mark.parametrize("file", ["data/chunk-000/file-000.parquet", "meta/tasks.parquet", "meta/info.json", "video"])
def test_what_git_lfs_did_not_fetch_is_said(tmp_path, file):
    root = write(tmp_path / "d")
    film = handmade.films(root, [1.2 * e for e in range(4)])
    (film if file == "video" else root / file).write_text(POINTER)
    assert "`git lfs pull`" in refused(lambda: load(root, images=True))


# --- times and sizes of videos --------------------------------------------------------------------------------------


def test_times_that_drift_name_the_tolerance_and_train_with_it(tmp_path):
    root = write(tmp_path / "d")
    handmade.films(root, [1.2 * e + 0.0005 * e for e in range(4)])
    observed = {"observations": ["observation.state", CAMERA]}
    message = refused(lambda: both(root, **observed))
    assert message.startswith("dataset.tolerance_s: 0.0001 given, allowed: above 0.0015: so many seconds")
    pictures = both(root, **observed, tolerance_s=0.002).batch(torch.arange(48), raw=True)[CAMERA]
    assert pictures.float().mean((1, 2, 3)).tolist() == pytest.approx([20 + 4 * i for i in range(48)], abs=2)
    handmade.episodes(root, [1.2 * e + 0.06 * (e > 0) for e in range(4)])
    # More than half a frame is no drift: the nearest frame is another one.
    assert refused(lambda: both(root, **observed)).startswith("video file: ")
    for wrong in (0, -1, float("nan"), float("inf")):
        assert "tolerance_s" in refused(lambda wrong=wrong: DatasetConfig("d", tolerance_s=wrong))


def test_a_frame_of_another_size_is_told_as_the_metadata_tells_it(tmp_path):
    root = write(tmp_path / "d")
    handmade.films(root, [1.2 * e for e in range(4)])
    edit_info(root, lambda info: info["features"][CAMERA].update(shape=[24, 16, 3]))
    assert f"frame size (height x width) of {CAMERA}: 16 x 24 with 3 channels given, allowed: 24 x 16" in refused(
        lambda: load(root, images=True)
    )


# --- remarks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [32767.0, -500.0])
def test_a_glitch_is_named(tmp_path, value):
    def values(episode, length):
        found = smooth(length, 3, episode)
        if episode == 2:
            found[7, 1] = value
        return found

    (remark,) = remarks(load(write(tmp_path / "d", [40] * 4, {"observation.state": values})))
    assert remark.startswith(f"observation.state lift is {value:g} in episode 2, frame 7, and in all but 1 frames")
    assert remarks(load(write(tmp_path / "fine", [40] * 4))) == []


@pytest.mark.parametrize(("turn", "low"), [(360, -180), (360, 0), (2 * np.pi, -np.pi)])
def test_an_angle_that_wraps_is_named(tmp_path, turn, low):
    def values(episode, length):
        found = smooth(length, 3, episode) / 100
        found[:, 2] = (0.03 + 0.05 * turn * np.arange(length)) % turn + low
        return found.astype(np.float32)

    (remark,) = remarks(load(write(tmp_path / "d", [40] * 4, {"action": values})))
    assert remark.startswith("action grip jumps from ")
    assert "in episode 0, frame 20: an angle that wraps" in remark

    def noise(episode, length):
        drawn = np.random.default_rng(episode).uniform(low, low + turn, (length, 3))
        return drawn.astype(np.float32)

    assert remarks(load(write(tmp_path / "noise", [40] * 4, {"action": noise}))) == []


# --- damaged metadata: one line, whatever it holds ------------------------------------------------------------------

WRONG = [None, True, -1, 10**30, 1.5, float("nan"), "", "x", "\ud800", [], [[]], {}, {"a": None}, [None], [0], ["3"]]
FIELDS = [
    ("codebase_version",),
    ("fps",),
    ("total_episodes",),
    ("total_frames",),
    ("video_path",),
    ("features",),
    ("features", "action"),
    ("features", "action", "dtype"),
    ("features", "action", "shape"),
    ("features", "action", "names"),
    ("features", CAMERA),
    ("features", CAMERA, "shape"),
    ("features", CAMERA, "names"),
    ("features", CAMERA, "info"),
    ("features", CAMERA, "dtype"),
    ("features", "timestamp"),
]


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    root = write(tmp_path_factory.mktemp("filmed") / "d")
    handmade.films(root, [1.2 * e for e in range(4)])
    return root


@pytest.mark.parametrize("field", FIELDS, ids=".".join)
def test_any_value_in_info_is_read_rightly_or_refused_in_one_line(filmed, tmp_path, field):
    copy = shutil.copytree(filmed, tmp_path / "d")
    options = {"images": True, "cache_gb": 0}
    expected = load(filmed, **options).batch([5])["action"]
    whole = json.loads((filmed / "meta" / "info.json").read_text())
    for wrong in [*WRONG, "missing"]:
        info = json.loads(json.dumps(whole))
        inner = info
        for name in field[:-1]:
            inner = inner[name]
        inner[field[-1]] = wrong
        if wrong == "missing":
            del inner[field[-1]]
        (copy / "meta" / "info.json").write_text(json.dumps(info))
        lines = []
        try:
            chunks = load(copy, **options)
        except DatasetError as error:
            lines.append(str(error))
        else:
            assert torch.equal(chunks.batch([5])["action"], expected), wrong
            assert len(chunks.names["action"]) == 3
        assert all("\n" not in line for line in lines), wrong


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "\x00", "[" * 10**5, '{"a": 1}'])
def test_info_that_is_no_object_is_refused_in_one_line(tmp_path, text):
    root = write(tmp_path / "d")
    (root / "meta" / "info.json").write_text(text)
    refused(lambda: read_info(root), DatasetError)


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = write(tmp_path / "d") / "meta" / "info.json"
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert load(tmp_path / "d").frames == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_index": [0, 0, 0, -1]}, "chunk_index in .*: -1 given, allowed: integers, 0 to"),
        ({"file_index": [0, 0, 0, 2**40]}, "file_index in .*: 1099511627776 given"),
        ({"file_index": [0.0] * 4}, "file_index in .*: 0.0 given"),
        ({"file_index": ["../x"] * 4}, "file_index in .*: '../x' given"),
        ({"from_timestamp": [0.0, 1.2, 2.4, float("nan")]}, "from_timestamp in .*: nan given, allowed: seconds"),
        ({"from_timestamp": [0.0, 1.2, 2.4, -1.0]}, "from_timestamp in .*: -1.0 given"),
        ({"from_timestamp": ["a"] * 4}, "from_timestamp in .*: 'a' given"),
        ({"from_timestamp": None}, "a file with the columns .*from_timestamp"),
        ({"episode_index": [0, 1, 2, None]}, "episode_index in .*: None given"),
        ({"episode_index": [0, 1, 2, 2]}, "rows of episode 2 in .*: two given"),
        ({"episode_index": [0, 1, 2, 4]}, r"episodes of .* without a video: \[3\] given"),
        ({"file_index": [0, 0, 0, 1]}, "video file: .*file-001.mp4' given, allowed: a file"),
        ({"file_index": [9, 8, 7, 6]}, "video file: .*file-009.mp4' given"),  # the first episode's
    ],
)
def test_a_damaged_table_of_episodes_is_one_line(filmed, tmp_path, changes, message):
    copy = shutil.copytree(filmed, tmp_path / "d")
    handmade.episodes(copy, [1.2 * e for e in range(4)], **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        load(copy, images=True)
    assert "\n" not in str(caught.value)
    # Without its pictures the dataset is as good as ever.
    assert load(copy).frames == 48


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"task_index": [0]}, "task_index and task"),
        ({"task": ["Pick."]}, "task_index and task"),
        ({"task_index": [1], "task": ["Pick."]}, "task 0 in .*: None given"),
        ({"task_index": [0], "task": [3]}, "task 0 in .*: 3 given"),
        ({"task_index": [-1], "task": ["Pick."]}, "task_index in .*: -1 given"),
        ({"task_index": ["0"], "task": ["Pick."]}, "task_index in .*: '0' given"),
    ],
)
def test_a_damaged_table_of_tasks_is_one_line(tmp_path, table, message):
    root = write(tmp_path / "d")
    pq.write_table(pa.table(table), root / "meta" / "tasks.parquet")
    with pytest.raises(DatasetError, match=message):
        load(root)


def test_a_task_that_no_frame_has_needs_no_sentence(tmp_path):
    root = write(tmp_path / "d")
    table = pa.table({"task_index": [0, 1, 2], "task": ["Pick.", None, "Push."]})
    pq.write_table(table, root / "meta" / "tasks.parquet")
    assert load(root).tasks == ["Pick.", "Push."]


@pytest.mark.parametrize("value", [2**63, 2**64 - 1])
def test_an_integer_beyond_int64_is_refused(tmp_path, value):
    def action(episode, length):
        values = np.zeros((length, 3), np.uint64)
        values[5, 1] = value if episode else 0
        return values

    root = write(tmp_path / "d", columns={"action": action}, features={"action": feature("uint64", [3])})
    with pytest.raises(DatasetError, match=f"action in .*, row 17: {value} given, allowed: integers below 2"):
        load(root)


def test_a_sentence_that_is_no_text_is_one_line(tmp_path):
    path = write(tmp_path / "d") / "meta" / "tasks.parquet"
    path.write_bytes(path.read_bytes().replace(b"Pick.", b"\xd0ick."))
    assert str(path) in refused(lambda: load(tmp_path / "d"))


def test_tasks_are_found_by_their_number_not_their_place(tmp_path):
    root = write(tmp_path / "d")
    (path,) = (root / "data").rglob("*.parquet")
    table = pq.read_table(path)
    numbers = pa.array(np.where(np.arange(48) < 24, 7, 3))
    pq.write_table(table.set_column(table.schema.get_field_index("task_index"), "task_index", numbers), path)
    tasks = pa.table({"task_index": [7, 3, 9], "task": ["Seven.", "Three.", "Nine."], "note": ["a", "b", "c"]})
    pq.write_table(tasks, root / "meta" / "tasks.parquet")
    assert load(root).batch([0, 47])["task"] == ["Seven.", "Three."]


@pytest.mark.parametrize(
    "pattern",
    [
        "../{video_key}.mp4",
        "/tmp/{file_index}.mp4",
        "C:\\{file_index}.mp4",
        "{video_key:999999999}.mp4",
        "{file_index:999999999}.mp4",
        "{file_index:099999d}.mp4",
        "{file_index!r}.mp4",
        "{file_index.__class__}.mp4",
        "{video_key[0]}.mp4",
        "{other}.mp4",
        "{}.mp4",
        "{file_index",
        "{file_index:{chunk_index}}.mp4",
        "a\0b.mp4",
        "a" * 300,
        "a/" * 3000,
        "",
    ],
)
def test_a_pattern_makes_paths_below_its_root_alone(tmp_path, pattern):
    call = lambda: file_of(tmp_path, pattern, "video_path", video_key="top", chunk_index=0, file_index=1)  # noqa: E731
    assert refused(call, DatasetError).startswith("video_path: ")


def test_a_camera_called_like_a_path_leads_nowhere(tmp_path):
    fields = {"chunk_index": 0, "file_index": 1}
    pattern = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:06d}.mp4"
    assert (
        file_of(tmp_path, pattern, "p", video_key="top", **fields) == tmp_path / "videos/top/chunk-000/file-000001.mp4"
    )
    assert "given" in refused(lambda: file_of(tmp_path, pattern, "p", video_key="../../x", **fields), DatasetError)
