import json

import pytest
from scipy.stats import binomtest

from anyorder.errors import ConfigError
from anyorder.reports.runs import read_run, read_runs
from tests.reports.fake_runs import SETTINGS, write_rollout, write_run


def test_a_whole_run(tmp_path):
    run = read_run(write_run(tmp_path / "ar", success=(7, 20)))
    assert (run.name, run.family, run.exact, run.label) == ("ar", "autoregressive", True, "ar (autoregressive)")
    assert (run.params, run.steps, run.finished) == (350592, 100, True)
    assert (run.train_episodes, run.train_frames, run.train_minutes, run.train_tokens) == (45, 2700, 1.5, 1946)
    assert run.final is not None
    assert run.best is not None
    assert (run.final.step, run.final.nll_nats_per_chunk) == (100, 50.4)
    assert (run.best.step, run.best.nll_nats_per_chunk) == (60, 48.0)
    assert run.final.standard_error_nats_per_value == pytest.approx(2.4 / 96)
    assert run.final.standard_error_nats_per_token == pytest.approx(2.4 / 12)
    assert len(run.training) == 10
    assert run.rollouts is not None
    assert (run.rollouts.successes, run.rollouts.episodes) == (7, 20)
    expected = binomtest(7, 20).proportion_ci(0.95, method="wilson")
    assert run.rollouts.interval == pytest.approx((expected.low, expected.high))
    assert (run.rollouts.chunk_latency_ms, run.rollouts.calls_per_chunk) == (21.4, 12.0)


def test_missing_pieces_are_none(tmp_path):
    folder = tmp_path / "young"
    folder.mkdir()
    (folder / "train_config.json").write_text(json.dumps({"factorization": {"type": "regression"}, "steps": 9}))
    run = read_run(folder)
    assert run.exact is None
    assert (run.params, run.train_tokens, run.final, run.best, run.rollouts) == (None,) * 5
    assert (run.steps, run.finished, run.videos, run.training) == (0, False, (), ())


def test_unfinished_rollout_does_not_count(tmp_path):
    folder = write_run(tmp_path / "ar", success=(5, 5))
    (folder / "rollout" / "summary.json").unlink()
    assert read_run(folder).rollouts is None


def test_success_during_training_is_marked(tmp_path):
    folder = write_run(tmp_path / "ar", rollout={"episodes": 50, "env": None, "seed": 1})
    with (folder / "metrics.jsonl").open("a") as file:
        for step, rate in ((50, 0.1), (100, 0.42)):
            file.write(json.dumps({"step": step, "success_rate": rate, "success_low": 0, "success_high": 1}) + "\n")
    rollouts = read_run(folder).rollouts
    assert rollouts is not None
    assert (rollouts.successes, rollouts.episodes, rollouts.during_training) == (21, 50, True)
    write_rollout(folder, 3, 4)
    rollouts = read_run(folder).rollouts
    assert rollouts is not None
    assert (rollouts.successes, rollouts.during_training) == (3, False)


def test_same_names_are_told_apart_and_same_folders_read_once(tmp_path):
    a, b = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")
    other = write_run(tmp_path / "a" / "other")
    assert [run.name for run in read_runs([a, b, other, a])] == ["a/run", "b/run", "other"]


def damage(name):
    def act(run):
        (run / name).write_text("{broken\n")

    return act


@pytest.mark.parametrize(
    ("act", "named"),
    [
        (lambda run: (run / "train_config.json").unlink(), "run: "),
        (damage("train_config.json"), "train_config.json"),
        (damage("data.json"), "data.json"),
        (damage("metrics.jsonl"), "metrics.jsonl"),
        (damage("rollout/summary.json"), "summary.json"),
        (damage("rollout/episodes.jsonl"), "episodes.jsonl"),
        (
            lambda run: (run / "train_config.json").write_text(
                json.dumps({**SETTINGS, "factorization": {"type": "autoregresive"}})
            ),
            "run/train_config.json: factorization: 'autoregresive' given",
        ),
    ],
)
def test_no_run_or_a_damaged_one_is_one_line(tmp_path, act, named):
    folder = write_run(tmp_path / "run", success=(1, 2))
    act(folder)
    with pytest.raises(ConfigError) as raised:
        read_run(folder)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_runs_is_an_error():
    with pytest.raises(ConfigError, match="at least one"):
        read_runs([])
