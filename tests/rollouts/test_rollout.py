import json
import logging
from dataclasses import dataclass
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from anyorder.envs.base import EnvConfig
from anyorder.errors import ConfigError, EnvError, NotFiniteError
from anyorder.folders import staged_folder
from anyorder.reports.rollouts import read_summary
from anyorder.rollouts.rollout import rollout

STARTED = []  # the seeds of all resets, in order


@dataclass
class CountdownConfig(EnvConfig, choice="count_to_zero"):
    """Ends after a number of steps that the seed sets; success if the policy said the right thing at each."""

    task: str = "count"
    camera: bool = False
    can_render: bool = True

    def build(self):
        return CountdownEnv(self)

    def expert(self):
        raise EnvError("this test has no expert")


class CountdownEnv(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}  # noqa: RUF012
    max_episode_steps = 30
    task = "count"
    task_description = "Count down."
    state_names = ["left", "step"]  # noqa: RUF012
    environment_names = ["secret"]  # noqa: RUF012
    action_names = ["a", "b"]  # noqa: RUF012

    def __init__(self, config):
        self.config = config
        box = lambda n: gym.spaces.Box(-np.inf, np.inf, (n,), np.float32)  # noqa: E731
        spaces = {"agent_pos": box(2), "environment_state": box(1)}
        if config.camera:
            spaces["pixels"] = gym.spaces.Dict({"top": gym.spaces.Box(0, 255, (9, 7, 3), np.uint8)})
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = box(2)
        self.ended = True

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        STARTED.append(seed)
        self.left = int(self.np_random.integers(1, 40))  # some are cut off after 30 steps
        self.secret = float(self.np_random.normal())
        self.steps, self.right, self.ended = 0, True, False
        return self.observe(), {"is_success": False}

    def step(self, action):
        assert not self.ended, "an ended episode was stepped"
        self.right = self.right and np.allclose(action, [self.secret, self.steps], atol=1e-5)
        self.left -= 1
        self.steps += 1
        self.ended = self.left == 0
        success = self.ended and self.right
        return self.observe(), 0.5, self.ended, False, {"is_success": success}

    def observe(self):
        observation = {
            "agent_pos": np.array([self.left, self.steps], dtype=np.float32),
            "environment_state": np.array([self.secret], dtype=np.float32),
        }
        if self.config.camera:
            observation["pixels"] = {"top": np.full((9, 7, 3), 51, dtype=np.uint8)}
        return observation

    def render(self):
        if not self.config.can_render:
            raise EnvError("rendering needs OpenGL\nand more")
        return np.full((33, 47, 3), 8 * self.steps, dtype=np.uint8)


class RightPolicy:
    """Plays a chunk of 6 and executes 4; every row depends on itself only."""

    n_action_steps = 4

    def __init__(self):
        self.calls = 0
        self.batch_sizes = []
        self.resets = 0

    def reset(self):
        self.resets += 1

    def predict_action_chunk(self, batch):
        self.calls += 3
        self.batch_sizes.append(len(batch["observation.state"]))
        assert batch["task"] == ["Count down."] * self.batch_sizes[-1]
        steps = batch["observation.state"][:, 1:] + torch.arange(6)
        return torch.stack([batch["observation.environment_state"].expand(-1, 6), steps], dim=-1)


def records(result):
    return [(e.index, e.seed, e.success, e.return_, e.max_reward, e.length, e.calls) for e in result.episodes]


@pytest.fixture(autouse=True)
def _no_resets_yet():
    STARTED.clear()


def test_results_do_not_depend_on_the_batch_size():
    alone = rollout(CountdownConfig(), RightPolicy(), episodes=21, seed=7, batch_size=1)
    assert sorted(STARTED) == list(range(7, 28))  # every episode is started once
    for batch_size in (2, 8, 64):
        STARTED.clear()
        together = rollout(CountdownConfig(), RightPolicy(), episodes=21, seed=7, batch_size=batch_size)
        assert records(together) == records(alone)
        assert sorted(STARTED) == list(range(7, 28))
    assert [e.seed for e in alone.episodes] == list(range(7, 28))
    assert 0 < alone.successes < 21  # the rest ran out of steps
    assert all(e.return_ == e.length / 2 and e.max_reward == 1 / 2 for e in alone.episodes)


class Numbered(RightPolicy):
    """Chunk k of an episode is 100 k + the step of the chunk."""

    blend = 2

    def predict_action_chunk(self, batch):
        chunk = 100 * (1 + batch["observation.state"][:, 1:] // 4) + torch.arange(6)
        return chunk.unsqueeze(-1).repeat(1, 1, 2)


def test_chunks_that_overlap_are_blended_in_each_episode(monkeypatch):
    played, step = [], CountdownEnv.step
    monkeypatch.setattr(
        CountdownEnv, "step", lambda env, action: played.append((env.steps, *action)) or step(env, action)
    )
    rollout(CountdownConfig(), Numbered(), episodes=9, seed=7, batch_size=4)
    wanted = {0: 100, 3: 103, 4: (2 * 104 + 200) / 3, 5: (105 + 2 * 201) / 3, 6: 202, 7: 203, 8: (2 * 204 + 300) / 3}
    assert {at for at, _, _ in played} >= set(wanted)
    for at, *action in played:
        if at in wanted:
            assert np.allclose(action, wanted[at])


def test_only_running_episodes_reach_the_policy():
    policy = RightPolicy()
    result = rollout(CountdownConfig(), policy, episodes=8, seed=0, batch_size=8)
    expected = []
    for start in range(0, 30, 4):
        expected.append(sum(e.length > start for e in result.episodes))
    assert policy.batch_sizes == [size for size in expected if size]
    assert policy.resets == 1
    assert [e.calls for e in result.episodes] == [3 * -(-e.length // 4) for e in result.episodes]


def test_a_wrong_policy_fails_and_truncation_ends_an_episode():
    policy = RightPolicy()
    policy.predict_action_chunk = lambda batch: torch.zeros(len(batch["observation.state"]), 4, 2)
    result = rollout(CountdownConfig(), policy, episodes=12, seed=0, batch_size=5)
    assert result.successes <= 1
    assert max(e.length for e in result.episodes) == 30
    assert policy.resets == 3


def test_files_are_written_as_episodes_end(tmp_path):
    output = tmp_path / "new" / "rollout"
    seen = []

    def progress(done, wanted):
        lines = (staged_folder(output) / "episodes.jsonl").read_text().splitlines()
        seen.append((done, wanted, len(lines)))
        assert not output.exists()

    result = rollout(
        CountdownConfig(), RightPolicy(), episodes=6, seed=3, batch_size=4, output=output, progress=progress
    )
    assert seen == [(i, 6, i) for i in range(1, 7)]
    lines = [json.loads(line) for line in (output / "episodes.jsonl").read_text().splitlines()]
    assert sorted(line["index"] for line in lines) == list(range(6))
    keys = {"index", "seed", "success", "return", "max_reward", "length", "chunk_latency_ms", "forwards", "crc32"}
    assert all(set(line) == keys for line in lines)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["env"]["type"] == "count_to_zero"
    assert summary["successes"] == result.successes
    assert summary["success_interval"] == list(result.interval)
    assert summary["chunk_latency_ms"] >= 0
    assert summary["seconds"] > 0
    with pytest.raises(ConfigError, match=r"output: .* a new folder"):
        rollout(CountdownConfig(), RightPolicy(), episodes=1, seed=0, output=output)
    assert len((output / "episodes.jsonl").read_text().splitlines()) == 6


def test_what_a_killed_rollout_left_is_not_in_the_way(tmp_path):
    output = tmp_path / "rollout"
    left = staged_folder(output)
    left.mkdir()
    (left / "episodes.jsonl").write_text('{"index": 0')

    def fail(done, wanted):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        rollout(CountdownConfig(), RightPolicy(), episodes=2, seed=0, output=output, progress=fail)
    assert list(tmp_path.iterdir()) == []
    rollout(CountdownConfig(), RightPolicy(), episodes=2, seed=0, output=output)
    assert [path.name for path in tmp_path.iterdir()] == ["rollout"]
    assert len((output / "episodes.jsonl").read_text().splitlines()) == 2


def test_videos_of_chosen_episodes(tmp_path):
    import imageio

    result = rollout(
        CountdownConfig(), RightPolicy(), episodes=4, seed=0, batch_size=3, output=tmp_path / "r", videos=[1, 3]
    )
    files = sorted((tmp_path / "r" / "videos").iterdir())
    assert [file.name for file in files] == ["episode_0001.mp4", "episode_0003.mp4"]
    with imageio.get_reader(files[0], format="FFMPEG") as reader:
        meta = reader.get_meta_data()
        assert meta["size"] == (46, 32)  # even sides
        assert meta["codec"] == "h264"
        assert meta["pix_fmt"].startswith("yuv420p")
        assert meta["fps"] == 25
        assert reader.count_frames() == result.episodes[1].length + 1


def test_no_opengl_means_one_line_and_no_videos(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        result = rollout(
            CountdownConfig(can_render=False), RightPolicy(), episodes=3, seed=0, output=tmp_path / "r", videos=3
        )
    assert [record.getMessage() for record in caplog.records] == ["no videos: rendering needs OpenGL"]
    assert len(result.episodes) == 3
    assert not (tmp_path / "r" / "videos").exists()


def test_a_failing_rollout_leaves_no_half_video(tmp_path):
    policy = RightPolicy()
    right = policy.predict_action_chunk

    def sometimes(batch):
        if (batch["observation.state"][:, 1] >= 8).any():
            raise EnvError("no more")
        return right(batch)

    policy.predict_action_chunk = sometimes
    with pytest.raises(EnvError, match="no more"):
        rollout(CountdownConfig(), policy, episodes=4, seed=0, output=tmp_path / "r", videos=4)
    assert not list((tmp_path / "r" / "videos").glob("*partial*"))
    assert not (tmp_path / "r" / "summary.json").exists()


def refusing(policy, named):
    """Let a policy refuse NaN, as this package's does, with or without the rows."""
    right = policy.predict_action_chunk

    def predict(batch):
        rows = (batch["observation.state"][:, 1] == 8).nonzero().flatten().tolist()
        rows = [row for row in rows if int(batch["episode_index"][row]) in (0, 2)]
        if rows:
            raise NotFiniteError("observation.state: nan", rows=rows if named else ())
        return right(batch)

    policy.predict_action_chunk = predict
    return policy


def spoiling(policy, value):
    """Let two episodes have actions that are not finite from step 8 on."""
    right = policy.predict_action_chunk

    def predict(batch):
        chunk = right(batch)
        for row, episode in enumerate(batch["episode_index"].tolist()):
            if episode in (0, 2) and batch["observation.state"][row, 1] == 8:
                chunk[row, 1, 0] = value
        return chunk

    policy.predict_action_chunk = predict
    return policy


@pytest.mark.parametrize(
    ("spoil", "steps", "reason"),
    [
        (lambda policy: refusing(policy, named=True), 8, "step 8: observation.state: nan"),
        (lambda policy: refusing(policy, named=False), 8, "step 8: observation.state: nan"),
        (lambda policy: spoiling(policy, float("nan")), 9, "step 9: action not finite: [nan, 9.0]"),
        (lambda policy: spoiling(policy, float("inf")), 9, "step 9: action not finite: [inf, 9.0]"),
    ],
)
def test_an_episode_with_numbers_that_are_not_finite_ends_as_failed_and_the_others_go_on(
    spoil, steps, reason, tmp_path
):
    seeds = {"episodes": 5, "seed": 0, "batch_size": 4}
    whole = rollout(CountdownConfig(), RightPolicy(), **seeds)
    assert [episode.length > 9 for episode in whole.episodes][0:3:2] == [True, True]
    found = rollout(CountdownConfig(), spoil(RightPolicy()), **seeds, output=tmp_path / "r", videos=1)
    for before, after in zip(whole.episodes, found.episodes, strict=True):
        if after.index in (0, 2):
            assert (after.success, after.length, after.reason) == (False, steps, reason)
        else:
            assert (after.success, after.length, after.reason) == (before.success, before.length, None)
    lines = [json.loads(line) for line in (tmp_path / "r" / "episodes.jsonl").read_text().splitlines()]
    assert {line["index"]: line.get("reason") for line in lines if "reason" in line} == {0: reason, 2: reason}
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["not_finite"] == found.not_finite == 2
    assert (tmp_path / "r" / "videos").exists()


@pytest.mark.parametrize("first", [0, 5])
def test_an_observation_that_is_not_finite_ends_its_episode_before_a_policy_sees_it(first, monkeypatch):
    observe = CountdownEnv.observe

    def spoilt(self):
        found = observe(self)
        if self.steps >= first:
            found["environment_state"] = np.array([np.nan], dtype=np.float32)
        return found

    monkeypatch.setattr(CountdownEnv, "observe", spoilt)
    found = rollout(CountdownConfig(), RightPolicy(), episodes=3, seed=0)
    said = f"step {first}: observation not finite: environment_state, dimensions [0]"
    ended = [episode for episode in found.episodes if episode.length >= first]
    assert [(e.success, e.length, e.reason) for e in ended if e.reason] == [
        (False, first, said) for e in ended if e.reason
    ]
    assert found.not_finite >= 2


def written(folder):
    """Return what a rollout wrote: its lines in order of the episodes, and its summary."""
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: line["index"]), read_summary(folder)


def test_an_episode_that_ends_before_its_first_step_is_written(tmp_path):
    policy = RightPolicy()
    right = policy.predict_action_chunk

    def spoilt(batch):
        chunk = right(batch)
        chunk[batch["episode_index"] == 0] = float("nan")
        return chunk

    policy.predict_action_chunk = spoilt
    found = rollout(CountdownConfig(), policy, episodes=3, seed=0, output=tmp_path / "r")
    lines, summary = written(tmp_path / "r")
    assert lines[0]["reason"] == "step 0: action not finite: [nan, nan]"
    assert (lines[0]["length"], lines[0]["return"], lines[0]["max_reward"]) == (0, 0, 0)
    assert (summary["not_finite"], summary["mean_max_reward"]) == (1, pytest.approx(1 / 3))
    assert [episode.max_reward for episode in found.episodes] == [0, 0.5, 0.5]


def test_where_no_episode_has_a_first_step_no_latency_is_known(tmp_path, monkeypatch):
    nothing = lambda self: {"agent_pos": np.full(2, np.nan), "environment_state": np.zeros(1)}  # noqa: E731
    monkeypatch.setattr(CountdownEnv, "observe", nothing)
    rollout(CountdownConfig(), RightPolicy(), episodes=2, seed=0, output=tmp_path / "r")
    lines, summary = written(tmp_path / "r")
    assert all("observation not finite: agent_pos" in line["reason"] for line in lines)
    assert not any("chunk_latency_ms" in line for line in lines)
    assert (summary["chunk_latency_ms"], summary["mean_max_reward"], summary["not_finite"]) == (None, 0, 2)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_reward_that_is_not_finite_ends_its_episode_as_failed(value, tmp_path, monkeypatch):
    step = CountdownEnv.step

    def spoilt(self, action):
        observation, reward, *rest = step(self, action)
        return observation, value if self.steps == 3 else -reward, *rest

    monkeypatch.setattr(CountdownEnv, "step", spoilt)
    rollout(CountdownConfig(), RightPolicy(), episodes=4, seed=0, output=tmp_path / "r")
    lines, summary = written(tmp_path / "r")
    ended = [line for line in lines if "reason" in line]
    assert len(ended) == summary["not_finite"] >= 2
    for line in ended:
        assert line["reason"] == f"step 3: reward not finite: {value}"
        kept = ("success", "length", "return", "max_reward")
        assert [line[name] for name in kept] == [False, 3, -1, -0.5]


@pytest.mark.parametrize(
    ("chunk", "steps", "message"),
    [
        (torch.zeros(1, 4, 3), 4, r"shape of the policy's chunk: \(1, 4, 3\) given, allowed: \(1, steps, 2\)"),
        (torch.zeros(2, 4, 2), 4, r"shape of the policy's chunk: \(2, 4, 2\) given"),
        (torch.zeros(1, 4, 2), 5, "n_action_steps of the policy: 5 given, allowed: at most 4"),
    ],
)
def test_actions_must_fit_the_environment(chunk, steps, message):
    policy = SimpleNamespace(n_action_steps=steps, reset=lambda: None, predict_action_chunk=lambda batch: chunk)
    with pytest.raises(EnvError, match=message):
        rollout(CountdownConfig(), policy, episodes=1, seed=0)


@pytest.mark.parametrize(
    ("field", "options"), [("episodes", {"episodes": 0}), ("batch_size", {"batch_size": 0}), ("videos", {"videos": 1})]
)
def test_bad_numbers(field, options):
    with pytest.raises(ConfigError, match=f"{field}: "):
        rollout(CountdownConfig(), RightPolicy(), **{"episodes": 1, "seed": 0, **options})


class Recorder(RightPolicy):
    """Keeps what it was shown."""

    n_obs_steps = 3

    def __init__(self):
        super().__init__()
        self.shown = []

    def predict_action_chunk(self, batch):
        self.shown.append(batch["observation.state"])
        present = {k: v[:, -1] for k, v in batch.items() if k.startswith("observation.")}
        return super().predict_action_chunk({**batch, **present})


def test_a_history_is_shown_oldest_first_and_starts_with_the_first_moment():
    policy = Recorder()
    rollout(CountdownConfig(), policy, episodes=1, seed=3)
    steps = [shown[0, :, 1].tolist() for shown in policy.shown]  # agent_pos[1] counts the steps
    assert steps[0] == [0, 0, 0]
    n = policy.n_action_steps
    assert steps[1] == [max(0, n - 2), n - 1, n]
