"""Pilots: what fits a budget, that the deadline stops work, a kill, the advice, and what is refused before work."""

import json
import math
import multiprocessing
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anyorder import cli
from anyorder.commands.advise import AdviseConfig, pilot_of
from anyorder.commands.fit import fit_table
from anyorder.datasets.read.episodes import split_episodes
from anyorder.errors import ConfigError, UserError
from anyorder.files import write_json
from anyorder.laws.facts import top_speed
from anyorder.studies import pilot, workers
from anyorder.studies import run as member
from anyorder.studies.collect import read_study
from anyorder.studies.config import LEAST_EPISODES, EvaluationConfig, GridConfig
from anyorder.studies.data import StudyData
from anyorder.studies.files import ERROR, PROGRESS, RESULT, run_folder
from anyorder.studies.grid import expand
from anyorder.studies.pilot import cells, corrected, grids, largest, makespan, within
from anyorder.studies.pilot_run import Pilot, dataset_of, free_folder
from anyorder.studies.workers import Session, Task, work
from tests.commands.test_cli import fails

FAMILIES = ["ar", "ar dropout=0.2", "masked"]


@pytest.fixture(scope="module")
def data(lift_root):
    return StudyData(pilot.study_config(str(lift_root), 6, 0.1))


@pytest.fixture(scope="module")
def tokens(data):
    return data.train.frames * data.tokens_per_frame


@pytest.fixture(scope="module")
def study(lift_root, tokens):
    return replace(pilot.study_config(str(lift_root), 6, 0.1), grids=grids(tokens))


@pytest.fixture(scope="module")
def members(study, data):
    return expand(study, data)


def cells_of(members, family):
    return [(m.width, m.unique_tokens, m.settings.epochs, m.params) for m in members if m.family == family]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_plan_fits_its_budget_and_a_larger_one_does_more(members, count):
    before = 0
    for seconds in [0.0, *(2.0**k for k in range(-2, 16))]:
        limit = largest(members, seconds, count)
        chosen = within(members, limit)
        assert makespan([m.estimated_s for m in chosen], count) <= seconds
        assert sum(m.estimated_s for m in chosen) <= count * seconds
        dearer = [m.flops for m in members if m.flops > limit]
        if dearer:
            more = within(members, min(dearer))
            assert makespan([m.estimated_s for m in more], count) > seconds
        assert [m.family for m in chosen].count("masked") * 3 == len(chosen) >= before
        assert cells_of(chosen, FAMILIES[0]) == cells_of(chosen, FAMILIES[1]) == cells_of(chosen, FAMILIES[2])
        assert [m.flops for m in chosen] == sorted(m.flops for m in chosen)
        before = len(chosen)
    assert before == len(members)


def test_the_limit_is_the_grids_own(study, data, members, tokens):
    limit = largest(members, 30.0, 1)
    bounded = expand(replace(study, grids=grids(tokens, limit)), data)
    assert {m.id for m in bounded} == {m.id for m in within(members, limit)}
    assert len(bounded) < len(members)


def test_what_is_done_takes_no_time(members):
    done = {m.id for m in within(members, largest(members, 10.0, 1))}
    assert 0 < len(done) < 3 * pilot.LEAST_RUNS
    assert largest(members, 0.0, 1, done) == max(m.flops for m in members if m.id in done)
    assert largest(members, -1.0, 1, done) == 0
    left = [m for m in within(members, math.inf)[: 3 * pilot.LEAST_RUNS] if m.id not in done]
    assert pilot.least_seconds(members, 1, done) == pytest.approx(sum(m.estimated_s for m in left))
    assert pilot.least_seconds(members, 1, {m.id for m in members}) == 0


def test_the_machine_is_measured(members):
    few = pilot.calibration(members, 20.0, 1)
    assert {m.family for m in few} == set(FAMILIES)
    assert sum(m.estimated_s for m in few) <= 20.0
    assert few[:3] == cells(members)[0]
    assert len(few) == 6
    assert pilot.calibration(members, 0.0, 1) == few[:3]
    factor = {"ar": 2.0, "ar dropout=0.2": 3.0, "masked": 0.5}
    took = {m.id: m.estimated_s * factor[m.family] for m in few}
    for before, after in zip(members, corrected(members, took), strict=True):
        assert after.estimated_s == pytest.approx(before.estimated_s * factor[before.family])
    alone = {few[0].id: few[0].estimated_s * 7}
    assert [m.estimated_s for m in corrected(members, alone)] == pytest.approx([m.estimated_s * 7 for m in members])
    assert corrected(members, {}) == members


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.1, 0.3])
def test_two_episodes_at_least_choose_and_two_report(fraction):
    for count in range(LEAST_EPISODES, 130):
        given = pilot.study_config("x", count, fraction).dataset
        rest, test = split_episodes(list(range(count)), given.test_fraction, 0)
        share = given.validation_fraction / (1 - given.test_fraction)
        train, validation = split_episodes(rest, share, 0)
        assert min(len(train), len(validation), len(test)) >= 2
        assert len(test) >= math.floor(0.05 * count)
        assert len(validation) >= math.floor(fraction * count)
    with pytest.raises(ConfigError, match="episodes of dataset: 5 given, allowed: at least 6"):
        pilot.study_config("x", 5, fraction)


def test_the_deadline_stops_what_runs(study, data, tmp_path, monkeypatch):
    """A clock that jumps when the second of three runs is under way."""
    long = GridConfig(["ar"], [16], [200], [1, 3000, 4000])
    tasks = [Task(m) for m in expand(replace(study, grids={"g": long}), data)]
    folders = [run_folder(tmp_path, task.member.id) for task in tasks]
    now = [0.0]

    def progress():
        if (folders[1] / PROGRESS).is_file():
            now[0] = 2.0

    monkeypatch.setattr(workers, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert work(study, tmp_path, tasks, 1, 0, progress, deadline=1.0) == {}
    assert [(f / RESULT).is_file() for f in folders] == [True, False, False]
    assert not any((f / ERROR).exists() for f in folders)
    assert not folders[2].exists()
    assert not multiprocessing.active_children()


@pytest.fixture
def small(monkeypatch):
    """A tiny grid, trained in this process; ``most`` runs before it is killed."""
    monkeypatch.setattr(pilot, "WIDTHS", [16, 32])
    monkeypatch.setattr(pilot, "EPOCHS", [1, 2, 3, 5])
    monkeypatch.setattr(pilot, "SHARES", [0.06, 0.3])
    monkeypatch.setattr(pilot, "EVALUATION", EvaluationConfig(4.0, 8, 2, 1, 1))
    control = SimpleNamespace(most=math.inf, trained=[], rounds=0)

    def here(config, out, tasks, processes, retries, progress, deadline):
        session = Session(config, out)
        control.rounds += 1
        for task in tasks:
            if len(control.trained) >= control.most:
                raise KeyboardInterrupt
            if time.perf_counter() < deadline:
                assert session.do(task) is None
                control.trained.append(task.member.id)
        return {}

    monkeypatch.setattr(workers, "work", here)

    def quickly(config, console):
        assert (config.law, config.loss) == ("auto", "loss_best")
        return fit_table(replace(config, law="chinchilla", bootstrap=100), console)

    monkeypatch.setattr("anyorder.commands.fit.fit_table", quickly)
    return control


def test_a_pilot_that_was_killed_goes_on_and_advises(small, lift_root, tmp_path, capsys):
    words = ["advise", f"dataset={lift_root}", "pilot=30", f"pilot_out={tmp_path / 'pilot'}", "workers=2"]
    # Extrapolated, as the laws of so tiny runs want epochs that none of them had.
    question = ["flops=1e8", "extrapolate=true"]
    words += [*question, f"out={tmp_path / 'advice.json'}"]
    small.most = 20
    assert cli.main(words) == 130
    small.most = math.inf
    assert cli.main(words) == 0
    assert len(small.trained) == len(set(small.trained)) == 2 * 2 * 4 * 3
    said = " ".join(capsys.readouterr().out.split())
    assert "pilot of 30 minutes on 2 cores: 2 demonstrations" in said
    assert "48 runs in" in said
    written = json.loads((tmp_path / "advice.json").read_text())
    assert {f["family"] for f in written["families"]} == set(FAMILIES)
    assert written["protocol"] == "best"
    assert sum(f["probability"] for f in written["families"]) == pytest.approx(1)
    assert (tmp_path / "pilot" / "fit" / "report.html").is_file()
    # Again, at no cost and with the same answer.
    assert "no cost" in said
    again = ["advise", f"dataset={lift_root}", f"laws={tmp_path / 'pilot' / 'fit'}", *question]
    assert cli.main([*again, f"out={tmp_path / 'again.json'}"]) == 0
    assert json.loads((tmp_path / "again.json").read_text()) == written
    line = fails(capsys, *words[:-1])
    assert f"laws={tmp_path / 'pilot' / 'fit'} asks that pilot again" in line
    assert len(small.trained) == 48


def test_the_time_that_is_named_is_enough(small, lift_root, tmp_path, capsys, monkeypatch):
    """On a machine so busy that nothing ever seems to fit."""
    monkeypatch.setattr(pilot, "largest", lambda *_: 0.0)
    monkeypatch.setattr("anyorder.commands.fit.fit_table", lambda *_: None)
    monkeypatch.setattr("anyorder.commands.fit.print_files", lambda *_: None)
    words = ["advise", f"dataset={lift_root}", f"pilot_out={tmp_path / 'pilot'}", "workers=2", "flops=1e8"]
    words += ["extrapolate=true"]
    line = fails(capsys, *words, "pilot=5")
    assert "pilot: 5.0 given, allowed: about 6 or more" in line
    monkeypatch.setattr(pilot, "least_seconds", lambda *_: 1e4)  # the machine gets slower still
    assert "about 6 or more" in fails(capsys, *words, "pilot=4")
    trained = len(small.trained)
    monkeypatch.setattr("anyorder.commands.advise.answer", lambda *_: None)
    assert cli.main([*words, "pilot=6"]) == 0
    assert len(small.trained) > trained
    assert len({*small.trained}) >= 3 * pilot.LEAST_RUNS
    assert "slower than when the time was named" in " ".join(capsys.readouterr().out.split())


def test_seconds_of_a_run_that_was_killed_count(small, data, lift_root, tmp_path, monkeypatch):
    given = AdviseConfig(pilot=5, dataset=str(lift_root), flops=1e8, pilot_out=str(tmp_path), workers=2)
    config = pilot_of(given)
    fresh = Pilot(config, dataset_of(config), 0.0)
    assert (fresh.trained_s, fresh.deadline) == (0.0, 300.0)
    folders = [run_folder(tmp_path, m.id) for m in fresh.grid]

    tell = member.Training.sign_of_life

    def told(training, folder):
        tell(training, folder)
        if training.wall_s:
            raise KeyboardInterrupt

    monkeypatch.setattr(member, "PROGRESS_S", 0.0)
    settings = replace(fresh.grid[0].settings, epochs=1000)
    held_out = member.HeldOut.of(data, 8, 8)
    with monkeypatch.context() as patch:
        patch.setattr(member.Training, "sign_of_life", told)
        with pytest.raises(KeyboardInterrupt):
            member.run_member(settings, data, held_out, folders[0])
    result = member.run_member(fresh.grid[1].settings, data, held_out, folders[1])
    again = Pilot(config, dataset_of(config), 0.0)
    assert list(again.took.values()) == [result["wall_s"]]
    killed_s = json.loads((folders[0] / PROGRESS).read_text())["wall_s"]
    assert killed_s > 0
    assert again.deadline == pytest.approx(300 - (killed_s + result["wall_s"]) / 2)


def test_a_family_that_cannot_learn_is_told_so(small, lift_root, tmp_path, capsys, monkeypatch):
    train = Session.do

    def broken(session, task, *rest):
        if task.member.family != "masked":
            return train(session, task, *rest)
        write_json(run_folder(session.out, task.member.id) / ERROR, {"error": "gradient: nan given", "tries": 1})
        return None

    monkeypatch.setattr(Session, "do", broken)
    line = fails(capsys, "advise", f"dataset={lift_root}", f"pilot_out={tmp_path / 'out'}", "pilot=30", "flops=1e8")
    assert f"dataset: '{lift_root}' given, allowed: one that models can learn: gradient: nan given" in line


def test_what_does_not_fit_is_said(small, lift_root, tmp_path, capsys):
    words = ["advise", f"dataset={lift_root}", f"pilot_out={tmp_path / 'out'}", "workers=1"]
    line = fails(capsys, *words, "pilot=0.001", "flops=1e8")
    assert "pilot: 0.001 given, allowed: about 1 or more" in line
    assert "laws take 13" in line
    # Nobody knows before how fast this machine is; then it is refused before the budget is spent.
    line = fails(capsys, *words, "pilot=5", "minutes=1e4")
    assert "minutes: 10000.0 given" in line
    assert "10x outside" in line
    assert 3 <= len(small.trained) <= 6
    assert len(read_study(tmp_path / "out").members) == len(small.trained)
    other = fails(capsys, *words, "pilot=5", "minutes=1", "validation_fraction=0.45")
    assert "pilot_out" in other
    assert "another study" in other
    assert len(small.trained) <= 6


def test_a_pilot_that_goes_on_refuses_what_it_may_not_reach_before_it_trains(small, lift_root, tmp_path, capsys):
    words = ["advise", f"dataset={lift_root}", f"pilot_out={tmp_path / 'out'}", "workers=1"]
    small.most = 9
    assert cli.main([*words, "pilot=5", "flops=1e8"]) == 130
    small.most = math.inf
    capsys.readouterr()
    line = fails(capsys, *words, "pilot=6", "minutes=50")
    assert "minutes: 50.0 given, allowed: " in line
    assert "FLOPs of the runs of a pilot of 6 minutes" in line
    assert len(small.trained) == 9


def test_expensive_runs_may_be_faster_than_cheap_ones_tell(lift_root, tmp_path):
    given = AdviseConfig(pilot=6, dataset=str(lift_root), minutes=1, pilot_out=str(tmp_path), workers=1)
    config = pilot_of(given)
    planned = Pilot(config, dataset_of(config), time.perf_counter())

    def ask(minutes):
        planned.config = replace(config, question=replace(config.question, minutes=minutes))
        planned.check_reach(planned.grid, "the runs")

    def reach(family):
        mine = [m for m in planned.grid if m.family == family]
        flops, seconds = np.array([m.flops for m in mine]), np.array([m.estimated_s for m in mine])
        return 10 * flops.max() / top_speed(flops, seconds) / 60

    most = min(map(reach, FAMILIES))  # if runs take what is estimated
    ask(0.2 * most)
    with pytest.raises(UserError, match=r"^minutes: .* given, allowed: .* FLOPs of the runs"):
        ask(0.9 * most)
    planned.took = {m.id: m.estimated_s for m in planned.grid}
    ask(0.9 * most)  # measured: no distance is needed


def head(folder, episodes, **features):
    """The head of a dataset."""
    info = {
        "codebase_version": "v3.0",
        "fps": 50,
        "features": {"action": {"dtype": "float32", "shape": [6]}, **features},
        "total_episodes": episodes,
        "total_frames": 1000,
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset={lift}", "flops=1"], "laws: None given, allowed: laws.json of `anyorder fit`, or pilot=MIN"),
        (["dataset={lift}", "flops=1", "pilot=1", "laws=x"], "laws: 'laws and pilot' given"),
        (["dataset={lift}", "flops=1", "pilot=0"], "pilot: 0.0 given, allowed: a number > 0"),
        (["dataset={lift}", "flops=1", "pilot=-3"], "pilot: -3.0 given"),
        (["unique_tokens=1e5", "flops=1", "pilot=1"], "unique_tokens: 100000.0 given, allowed: none with pilot"),
        (["flops=1", "pilot=1"], "dataset: None given"),
        (["dataset={lift}", "pilot=1"], "flops: None given"),
        (["dataset={lift}", "flops=1", "pilot=1", "workers=-1"], "workers: -1 given"),
        (["dataset={lift}", "flops=1", "pilot=1", "out={lift}/meta/info.json/a.json"], "out: "),
        (["dataset=nobody/nothing", "flops=1", "pilot=1"], "dataset: 'nobody/nothing' given"),
        (["dataset=/no/such", "flops=1", "pilot=1"], "the folder of a LeRobot dataset"),
        (["dataset={cameras}", "flops=1", "pilot=1"], "a pilot reads no cameras"),
        (["dataset={few}", "flops=1", "pilot=1"], "episodes of dataset: 5 given, allowed: at least 6"),
        (["dataset={lift}", "flops=1", "pilot=1", "validation_fraction=0.5"], "below 0.5 with pilot"),
        (["dataset={lift}", "flops=1e20", "pilot=1"], "what a pilot of this dataset can train"),
        (["dataset={lift}", "minutes=60", "flops_per_s=1e15", "pilot=1"], "minutes: 60.0 given, allowed: "),
    ],
)
def test_bad_words_before_any_work(words, said, lift_root, tmp_path, capsys):
    picture = {"observation.images.top": {"dtype": "video", "shape": [24, 32, 3]}}
    state = {"observation.state": {"dtype": "float32", "shape": [6]}}
    folders = {
        "lift": lift_root,
        "cameras": head(tmp_path / "cameras", 50, **picture),
        "few": head(tmp_path / "few", 5, **state),
    }
    given = [word.format(**folders) for word in words]
    assert said in fails(capsys, "advise", *given, f"pilot_out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_bad_data_name_what_a_pilot_can_do(lift_copy, tmp_path, capsys):
    (file,) = (lift_copy / "data").rglob("*.parquet")
    (lift_copy / "SHA256SUMS").unlink(missing_ok=True)
    rows = pq.read_table(file)
    column = rows.schema.get_field_index("observation.state")
    values = rows["observation.state"].to_pylist()
    values[3][0] = float("nan")
    pq.write_table(
        rows.set_column(column, rows.schema.field(column), pa.array(values, rows.schema.field(column).type)), file
    )
    told = fails(capsys, "advise", f"dataset={lift_copy}", "flops=1e9", "pilot=1", f"pilot_out={tmp_path / 'out'}")
    assert "observation.state in episode 0, frame 3: nan given, allowed: finite numbers; `lerobot-edit-dataset " in told
    assert "--operation.episode_indices='[0]'` leaves it out, observations=[...] may name fewer features" in told


def test_what_a_kill_left_of_a_fit_is_made_anew(tmp_path):
    out = tmp_path / "pilot"
    (out / "fit").mkdir(parents=True)
    with pytest.raises(ConfigError, match="pilot_out"):  # not a pilot's: nothing of it is touched
        free_folder(out)
    (out / "study.json").write_text("{}")
    (out / "fit" / "report.html").write_text("half")
    assert free_folder(out) == out / "fit"
    assert not (out / "fit").exists()
    (out / "fit").mkdir()
    (out / "fit" / "laws.json").write_text("{}")
    with pytest.raises(ConfigError, match="asks that pilot again"):
        free_folder(out)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="a folder, where one can be made"):
        free_folder(file)
