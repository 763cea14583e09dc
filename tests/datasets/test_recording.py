import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from anyorder.datasets import ActionChunks, Origin, record
from anyorder.datasets.write import commit as commit_module
from anyorder.datasets.write.recording import MAX_FAILURES, roll_out
from anyorder.errors import DatasetError
from anyorder.sums import SUMS, read_sums
from tests.datasets.toy_env import ToyConfig


def load(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/toy", root=root, video_backend="pyav")


def contents(root):
    """Everything a dataset says, independent of how its rows lie in files."""
    tables = {}
    for folder in ("data", "meta/episodes"):
        rows = [row for file in sorted((root / folder).glob("*/*")) for row in pq.read_table(file).to_pylist()]
        tables[folder] = rows
    texts = {name: (root / "meta" / name).read_text() for name in ("info.json", "stats.json", "anyorder.json")}
    return {**tables, **texts, "tasks": pq.read_table(root / "meta/tasks.parquet").to_pylist()}


def test_a_frame_is_the_observation_before_the_action_and_the_action_sent(toy_root):
    env, expert = ToyConfig().build(), ToyConfig().expert()
    chunks = ActionChunks.load(toy_root, horizon=1)
    row = 0
    for episode in Origin.load(toy_root).episodes:
        observation, _ = env.reset(seed=episode["seed"])
        expert.reset(env, episode["seed"])
        done = False
        while not done:
            action = np.asarray(expert.act(env, observation), dtype=np.float32)
            np.testing.assert_array_equal(chunks.columns["observation.state"][row], observation["agent_pos"])
            np.testing.assert_array_equal(chunks.columns["action"][row], action)
            observation, _, done, _, _ = env.step(action)
            row += 1
    assert row == chunks.frames


def test_lerobot_reads_the_dataset_with_names_task_and_rate(toy_root):
    dataset = load(toy_root)
    assert dataset.meta.total_episodes == 12
    assert len(dataset) == ActionChunks.load(toy_root, horizon=1).frames
    assert dataset.fps == 20
    assert dataset.meta.robot_type == "point"
    assert dataset.features["action"]["names"] == ["dx", "dy"]
    assert dataset[0]["task"] == "Walk to the goal."
    assert [dataset.meta.episodes[i]["length"] for i in range(12)] == ActionChunks.load(
        toy_root, horizon=1
    ).lengths.tolist()
    assert len(list((toy_root / "data").glob("*/*.parquet"))) == 2  # ten episodes share a file


def test_the_recorded_mean_agrees_with_the_values(toy_root):
    dataset = load(toy_root)
    actions = ActionChunks.load(toy_root, horizon=1).columns["action"].double()
    np.testing.assert_allclose(dataset.meta.stats["action"]["mean"], actions.mean(dim=0), rtol=1e-5)
    assert dataset.meta.stats["action"]["count"] == [len(actions)]


def test_failed_episodes_are_dropped_and_the_next_seed_is_tried(tmp_path):
    recording = record(ToyConfig(fail_every=2), tmp_path / "toy", episodes=3, seed=4)
    assert recording.seeds == [5, 7, 9]
    assert recording.failed == 3  # 4, 6 and 8
    assert recording.frames == len(load(tmp_path / "toy"))
    everything = record(ToyConfig(fail_every=2), tmp_path / "all", episodes=3, seed=4, only_successful=False)
    assert everything.seeds == [4, 5, 6]
    assert [e["success"] for e in Origin.load(tmp_path / "all").episodes] == [False, True, False]


def test_an_expert_that_always_fails_ends_the_recording(tmp_path):
    with pytest.raises(DatasetError, match=f"toy walk.*{MAX_FAILURES} episodes in a row failed"):
        record(ToyConfig(fail_every=1), tmp_path / "toy", episodes=1)
    assert list(tmp_path.iterdir()) == []


def test_the_origin_rebuilds_the_environment(toy_root):
    config = Origin.load(toy_root).env_config()
    assert config == ToyConfig()
    assert roll_out(config.build(), config.expert(), seed=3)[1]


def test_progress_is_told(tmp_path):
    told = []
    record(ToyConfig(), tmp_path / "toy", episodes=2, progress=lambda done, wanted: told.append((done, wanted)))
    assert told == [(1, 2), (2, 2)]


def test_nothing_is_overwritten(toy_root, tmp_path):
    before = contents(toy_root)
    with pytest.raises(DatasetError, match=r"root: .* given, allowed: a folder that does not exist yet"):
        record(ToyConfig(), toy_root, episodes=1)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="a dataset that anyorder recorded"):
        record(ToyConfig(), foreign, episodes=1, resume=True)
    with pytest.raises(DatasetError, match="episodes: 0 given"):
        record(ToyConfig(), tmp_path / "new", episodes=0)
    assert contents(toy_root) == before
    assert (foreign / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("field", "config", "options"), [("env", ToyConfig(noise=0.2), {}), ("seed", ToyConfig(), {"seed": 4})]
)
def test_only_the_same_recording_resumes(toy_root, field, config, options):
    with pytest.raises(DatasetError, match=f"{field}: .* as in the recording to resume"):
        record(config, toy_root, episodes=13, resume=True, **{"seed": 3, **options})


def test_resuming_a_finished_recording_changes_nothing(toy_root):
    before = contents(toy_root)
    recording = record(ToyConfig(), toy_root, episodes=12, seed=3, resume=True)
    assert recording.episodes == 12
    assert contents(toy_root) == before


def test_fewer_episodes_than_there_are_is_refused(toy_root):
    before = contents(toy_root)
    with pytest.raises(DatasetError, match=f"^episodes: 5 given, allowed: 12 or more, as {toy_root} has 12 already$"):
        record(ToyConfig(), toy_root, episodes=5, seed=3, resume=True)
    assert contents(toy_root) == before


def test_cameras_become_videos(video_root):
    dataset = load(video_root)
    assert dataset.meta.video_keys == ["observation.images.top"]
    env, expert = ToyConfig(camera=True).build(), ToyConfig(camera=True).expert()
    frames, _ = roll_out(env, expert, seed=2)
    start = dataset.meta.episodes[2]["dataset_from_index"]
    for step in (0, len(frames) - 1):
        image = dataset[start + step]["observation.images.top"]
        recorded = torch.from_numpy(frames[step]["observation.images.top"]).permute(2, 0, 1) / 255
        assert image.shape == (3, 32, 32)
        assert (image - recorded).abs().mean() < 0.05  # the video loses a little


def killed_child(config, root, kill_at):
    """Record in a forked process that kills itself (signal 9) at its n-th change of a committed file or folder."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(function):
            def wrapper(*args, **kwargs):
                nonlocal count
                count += 1
                if count == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)

            return wrapper

        commit_module.os = type("os", (), {"replace": staticmethod(counted(os.replace))})
        commit_module.shutil = type("shutil", (), {"rmtree": staticmethod(counted(shutil.rmtree))})
        Path.rename = counted(Path.rename)
        record(config, root, episodes=4, resume=True)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "toy"
    record(ToyConfig(), root, episodes=4)
    return contents(root)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_file_operation_loses_no_finished_episode(tmp_path, undisturbed):
    first = tmp_path / "first" / "toy"
    record(ToyConfig(), first, episodes=2)
    killed = 0
    for kill_at in range(1, 100):
        root = tmp_path / str(kill_at) / "toy"
        shutil.copytree(first.parent, root.parent)
        if not killed_child(ToyConfig(), root, kill_at):
            break
        killed += 1
        total = json.loads((root / "meta/info.json").read_text())["total_episodes"]
        assert total >= 2
        chunks = ActionChunks.load(root, horizon=4)
        assert chunks.episodes == total
        if kill_at % 3 == 0:  # LeRobot takes longest
            dataset = load(root)
            assert dataset.meta.total_episodes == total
            assert len(dataset) == chunks.frames
            torch.testing.assert_close(dataset[len(dataset) - 1]["action"], chunks.columns["action"][-1])
            record(ToyConfig(), root, episodes=4, resume=True)
            assert contents(root) == undisturbed
            assert [path.name for path in root.parent.iterdir()] == ["toy"]
    assert killed > 10


def test_damage_to_what_was_recorded_is_one_line(tmp_path, undisturbed):
    root = tmp_path / "toy"
    for episodes in (2, 4):
        record(ToyConfig(), root, episodes=episodes, resume=episodes > 2)
    files = [path for path in root.rglob("*") if path.is_file() and path.name != SUMS]
    assert {path.relative_to(root).as_posix() for path in files} == set(read_sums(root))
    assert all(len(digests) == 1 for digests in read_sums(root).values())
    for path in files:
        good = path.read_bytes()
        path.write_bytes(good[:-9] + bytes([good[-9] ^ 16]) + good[-8:])
        for act in (lambda: ActionChunks.load(root, horizon=4), resume(root)):
            with pytest.raises(DatasetError, match=re.escape(path.name)) as error:
                act()
            assert "\n" not in str(error.value)
        path.write_bytes(good)
    (root / SUMS).unlink()  # as older versions, and after LeRobot's tools have changed it
    resume(root)()
    assert contents(root) == undisturbed


def resume(root):
    return lambda: record(ToyConfig(), root, episodes=4, resume=True)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"env": "toy"}, "env: 'toy' given"),
        ({"env": {"choice": 3, "options": []}}, "env.options: [] given"),
        ({"env": {"choice": [], "options": {}}}, "env.type: [] given"),
        ({"env": {"task": "lift"}}, "env.type: None given"),
        ({"episodes": [{"seed": "0", "success": True}]}, "episodes[0].seed: '0' given, allowed: an integer"),
        ({"episodes": [[]]}, "episodes[0]: [] given"),
        ({"seed": None}, "seed: None given, allowed: an integer"),
        ({"sead": 1}, "did you mean 'seed'"),
    ],
)
def test_an_origin_that_cannot_be_is_one_line(tmp_path, change, line):
    origin = {"env": {"type": "toy"}, "expert": "ToyExpert", "seed": 0, "only_successful": True}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "anyorder.json").write_text(json.dumps({**origin, **change}))
    with pytest.raises(DatasetError, match=re.escape(line)):
        Origin.load(tmp_path)


def test_an_origin_of_an_earlier_version_is_read(tmp_path):
    origin = {"expert": "ToyExpert", "seed": 0, "only_successful": True}
    older = {**origin, "env": {"choice": "toy", "options": {"noise": 0.2}}}
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "anyorder.json").write_text(json.dumps(older))
    found = Origin.load(tmp_path)
    assert found is not None
    assert found.env_config() == ToyConfig(noise=0.2)
    found.save(tmp_path)
    written = json.loads((tmp_path / "meta" / "anyorder.json").read_text())
    assert written["env"] == {"type": "toy", "noise": 0.2}


def test_a_picture_that_cannot_be_written_ends_the_recording(tmp_path, monkeypatch):
    """LeRobot would log it and make a video that lacks the frame."""
    import PIL.Image

    save, saved = PIL.Image.Image.save, []

    def full_for_a_moment(image, path, **options):
        saved.append(path)
        if len(saved) == 5:
            raise OSError(28, "No space left on device")
        save(image, path, **options)

    monkeypatch.setattr(PIL.Image.Image, "save", full_for_a_moment)
    with pytest.raises(OSError, match="No space"):
        record(ToyConfig(camera=True), tmp_path / "toy", episodes=1)
    assert list(tmp_path.iterdir()) == []
    assert record(ToyConfig(camera=True), tmp_path / "toy", episodes=1).episodes == 1


@pytest.mark.slow
def test_kill_9_of_a_recording_process(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.datasets.toy_env import ToyConfig\n"
        "from anyorder.datasets import record\n"
        f"record(ToyConfig(camera=True), {str(tmp_path / 'toy')!r}, episodes=400)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while not (tmp_path / "toy" / "meta" / "info.json").is_file():
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(3.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = load(tmp_path / "toy").meta.total_episodes
    assert found >= 1
    record(ToyConfig(camera=True), tmp_path / "toy", episodes=found + 2, resume=True)
    record(ToyConfig(camera=True), tmp_path / "whole", episodes=found + 2)
    again, whole = contents(tmp_path / "toy"), contents(tmp_path / "whole")
    assert again["data"] == whole["data"]
    assert len(load(tmp_path / "toy")) == len(again["data"])
    assert load(tmp_path / "toy")[len(again["data"]) - 1]["observation.images.top"].shape == (3, 32, 32)
