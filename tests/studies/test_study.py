"""Studies: what is expanded, what a token epoch is, that a killed run ends like any other, that reruns do nothing."""

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet as parquet
import pytest
import torch
import yaml
from rich.console import Console

from anyorder import cli
from anyorder.commands import study as commands
from anyorder.errors import ConfigError, DatasetError, UserError
from anyorder.factorization import FactorizationConfig
from anyorder.files import read_json, write_json
from anyorder.laws.runs import read_runs
from anyorder.networks import HeadConfig
from anyorder.settings import completed, from_plain, to_plain
from anyorder.studies import collect
from anyorder.studies.collect import TIMES, read_study, standing, standings, table
from anyorder.studies.config import EvaluationConfig, GridConfig, StudyConfig, StudyDataset
from anyorder.studies.data import StudyData, prefix, token_epochs
from anyorder.studies.files import ERROR, PROGRESS, RESULT, STATE, STUDY, WEIGHTS, read_file, run_folder
from anyorder.studies.grid import as_plain, expand, read_member
from anyorder.studies.run import HeldOut, Training, run_member
from anyorder.studies.score import score_inputs
from anyorder.tensors import read_tensors
from anyorder.training.evaluate import validate
from tests.commands.test_cli import fails

EVALUATION = {"chunks": 16, "test_chunks": 16, "draws": 2, "test_draws": 2}


def family(name, **options):
    return FactorizationConfig.named(name, **options)


def study(root, **changes):
    config = StudyConfig(
        dataset=StudyDataset(str(root), validation_fraction=0.34, test_fraction=0.34),
        families={"ar": family("autoregressive"), "masked": family("masked_diffusion")},
        grids={"main": GridConfig(["ar", "masked"], [16], [200, 500], [1, 3])},
        evaluation=EvaluationConfig(**EVALUATION),
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def config(lift_root):
    return study(lift_root)


@pytest.fixture(scope="module")
def data(config):
    return StudyData(config)


@pytest.fixture(scope="module")
def held_out(data):
    return HeldOut.of(data, 16, 16)


def test_runs_from_before_there_were_heads_keep_their_ids_and_their_softmax(data, lift_root):
    softmax = study(lift_root, head=HeadConfig("categorical"))
    member = expand(softmax, data)[0]
    plain = as_plain(member)
    del plain["settings"]["head"]
    for name in ("queries", "lookahead"):
        del plain["settings"]["factorization"][name]
    text = json.dumps(plain["settings"], sort_keys=True)
    assert member.id == hashlib.sha256(text.encode()).hexdigest()[:12]
    assert read_member(plain) == member
    older = to_plain(softmax)
    del older["head"]
    assert from_plain(StudyConfig, completed(StudyConfig, older)) == softmax


def test_every_combination_once(config, data, lift_root):
    members = expand(config, data)
    assert len({m.id for m in members}) == len(members) == 8
    for m in members:
        assert m.tokens == m.unique_tokens * m.settings.epochs
        assert m.flops == 6 * m.params * m.tokens
        assert m.unique_tokens == m.settings.unique_frames * data.tokens_per_frame
    again = GridConfig(["ar"], [16], [200], [1, 3])
    twice = expand(study(lift_root, grids={**config.grids, "again": again}), data)
    assert [m.id for m in twice] == [m.id for m in members]
    smaller = expand(study(lift_root, grids={"main": replace(again, max_flops=members[0].flops)}), data)
    assert [m.id for m in smaller] == [members[0].id]


def test_an_id_is_what_decides_a_run(config, data, lift_root):
    first = expand(config, data)[0]
    renamed = study(
        lift_root, families={"x": family("autoregressive")}, grids={"g": GridConfig(["x"], [16], [200], [1])}
    )
    assert expand(renamed, data)[0].id == first.id
    for changes in (
        {"dropout": [0.1]},
        {"weight_decay": [0.2]},
        {"seed": [1]},
        {"token_masking": [0.5]},
        {"epochs": [2]},
        {"attention_dropout": [0.1]},
    ):
        (other,) = expand(study(lift_root, grids={"g": GridConfig(["ar"], [16], [200], [1])}), data)
        assert other.id == first.id
        grid = replace(GridConfig(["ar"], [16], [200], [1]), **changes)
        assert expand(study(lift_root, grids={"g": grid}), data)[0].id != first.id, changes
    assert first.settings.head.distribution == "ordinal"
    softmax = study(lift_root, grids={"g": GridConfig(["ar"], [16], [200], [1])}, head=HeadConfig("categorical"))
    assert expand(softmax, data)[0].id != first.id
    assert read_member(json.loads(json.dumps(as_plain(first)))) == first
    assert read_member(as_plain(first)).settings.id == first.id


def test_the_data_is_in_the_id(config, data, lift_root):
    other = StudyData(study(lift_root, chunk_size=4))
    assert other.fingerprint != data.fingerprint
    assert StudyData(study(lift_root)).fingerprint == data.fingerprint


def test_a_run_is_not_trained_on_data_that_changed_since_it_was_planned(config, data, held_out, tmp_path):
    (m, *_) = expand(config, data)
    planned = replace(m.settings, data="0123456789abcdef")
    with pytest.raises(DatasetError, match="the study's dataset: something else"):
        run_member(planned, data, held_out, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_episode_is_on_two_sides(data):
    sides = [set(part.episode_ids) for part in (data.train, data.validation, data.test)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == 6


@pytest.mark.parametrize("name", ["validation", "test"])
def test_two_episodes_at_least_are_held_out(lift_root, name):
    config = study(lift_root)
    few = replace(config, dataset=replace(config.dataset, **{f"{name}_fraction": 0.01}))
    with pytest.raises(ConfigError, match=rf"dataset.{name}_fraction: 0.01 given, allowed: 0.34 or more"):
        StudyData(few)
    with pytest.raises(ConfigError, match="episodes of dataset: 5 given, allowed: at least 6"):
        StudyData(replace(few, dataset=replace(few.dataset, episodes=5)))


@pytest.mark.parametrize("frames", [5, 60, 110])
def test_a_token_epoch_predicts_every_frame_once(data, frames):
    chunks = prefix(data.train, frames, seed=3)
    assert chunks.frames == frames
    visits = token_epochs(chunks, 3, seed=0)
    begin = 0
    for end in visits.ends:
        seen = torch.zeros(frames)
        for row, weight in zip(visits.rows[begin:end], visits.weights[begin:end], strict=True):
            seen[row : row + round(float(weight) * chunks.horizon)] += 1
        assert (seen == 1).all()
        assert float(visits.weights[begin:end].sum()) * data.length == pytest.approx(frames * data.tokens_per_frame)
        begin = end
    assert begin == len(visits.rows)
    if frames > chunks.horizon:
        assert not torch.equal(visits.rows[: visits.ends[0]].sort().values, visits.rows[visits.ends[1] :].sort().values)


def test_prefixes_are_nested_and_seeded(data):
    def frames(chunks):
        return set(zip(*(chunks.columns[k].tolist() for k in ("episode_index", "frame_index")), strict=True))

    small, large = (frames(prefix(data.train, n, seed=1)) for n in (40, 110))
    assert small < large
    assert len(large) == 110
    assert len({min(e for e, _ in frames(prefix(data.train, 10, seed=s))) for s in range(8)}) == 2


@pytest.mark.parametrize("name", ["autoregressive", "masked_diffusion"])
def test_the_objective_and_the_score_are_a_policys(config, data, held_out, name):
    (m,) = [m for m in expand(config, data) if m.settings.factorization.choice == name][:1]
    training = Training(m.settings, data)
    chunks = data.subset(m.settings.unique_frames, 0)
    rows = torch.arange(0, chunks.frames, 7)
    expected, _ = training.learner.policy(
        chunks.batch(rows), reduction="none", generator=torch.Generator().manual_seed(1)
    )
    found = training.learner.policy.factorization.loss(
        training.learner.policy.network,
        training.inputs.codes[rows],
        training.inputs.context(training.learner.policy, rows),
        generator=torch.Generator().manual_seed(1),
    )
    assert torch.equal(found, expected)
    scored = score_inputs(training.learner.policy, held_out.validation, draws=2, seed=0)
    # Its generator has drawn nothing before the likelihood's.
    training.learner.policy.factorization.loss = lambda network, code, context, **_: torch.zeros(len(code))
    validation = validate(training.learner.policy, data.validation, samples=2, limit=16, seed=0)
    assert scored.nll == pytest.approx(validation.nll_nats_per_token, rel=1e-5)
    assert scored.se * data.length == pytest.approx(validation.nll_standard_error, rel=1e-4)


def test_a_run_learns_and_says_when_it_was_best(lift_root, data, held_out, tmp_path):
    grid = GridConfig(["ar"], [16], [400], [40])
    (m,) = expand(study(lift_root, grids={"g": grid}), data)
    result = run_member(m.settings, data, held_out, tmp_path)
    history = result["history"]
    assert [moment["epoch"] for moment in history] == m.settings.evaluation.epochs(40)
    assert result["loss_best"] == min(moment["nll"] for moment in history) < history[0]["nll"]
    assert result["loss_final"] == history[-1]["nll"]
    assert result["epochs_final"] == 40
    assert result["train_nll"] < result["loss_final"]
    assert (result["test_best"] == result["test_final"]) == (result["epochs_best"] == 40)


def interrupted(settings, data, held_out, folder):
    """Run in another process, with a state after every step, and kill it after some."""

    def main():
        torch.set_num_threads(1)
        run_member(settings, data, held_out, folder, save_s=0.0)

    process = multiprocessing.get_context("fork").Process(target=main)
    process.start()
    written = set()
    while len(written) < 6 and process.is_alive():
        written |= {path.stat().st_mtime_ns for path in folder.glob(STATE)}
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["ar", "masked"])
def test_three_kills_change_nothing(lift_root, data, held_out, tmp_path, name):
    grid = GridConfig([name], [16], [200], [24], dropout=[0.1])
    (m,) = expand(study(lift_root, grids={"g": grid}, keep_weights="best", batch_scale=0.25), data)
    whole = run_member(m.settings, data, held_out, tmp_path / "whole")
    steps = []
    for _ in range(3):
        interrupted(m.settings, data, held_out, tmp_path / "killed")
        steps.append(read_tensors(tmp_path / "killed" / STATE)[1]["step"])
        assert not (tmp_path / "killed" / RESULT).is_file()
    assert steps == sorted(set(steps))
    ended = run_member(m.settings, data, held_out, tmp_path / "killed")
    assert {k: v for k, v in ended.items() if k not in TIMES} == {k: v for k, v in whole.items() if k not in TIMES}
    weights = [(tmp_path / kind / "weights.safetensors").read_bytes() for kind in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "killed" / STATE).exists()


@pytest.mark.parametrize("damage", ["flipped", "cut", b"", b"no state", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_state_costs_time_and_nothing_else(lift_root, data, held_out, tmp_path, caplog, damage):
    (m,) = expand(study(lift_root, grids={"g": GridConfig(["ar"], [16], [200], [2])}), data)
    training = Training(m.settings, data)
    training.advance()
    tmp_path.joinpath("run").mkdir()
    state = tmp_path / "run" / STATE
    training.save(state)
    content = state.read_bytes()
    damaged = {"flipped": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-1]}
    state.write_bytes(damaged.get(damage, damage))
    (tmp_path / "run" / f".{STATE}.99999999").touch()  # a kill leaves this
    ended = run_member(m.settings, data, held_out, tmp_path / "run")
    assert STATE in caplog.text
    assert "the run begins anew" in caplog.text
    assert "weights_only" not in caplog.text
    assert not list(tmp_path.glob("run/.*"))
    whole = run_member(m.settings, data, held_out, tmp_path / "whole")
    assert {k: v for k, v in ended.items() if k not in TIMES} == {k: v for k, v in whole.items() if k not in TIMES}


def test_a_disk_without_room_is_no_failure_of_a_run(lift_root, tmp_path, monkeypatch):
    words = [f"study={write_yaml(tmp_path, lift_root)}", f"out={tmp_path / 'out'}", "launcher=basic"]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("anyorder.studies.run.run_member", full)
    with pytest.raises(OSError, match="No space left on device"):
        commands.run(cli.settings("study", ["action=run", *words]), Console(quiet=True))
    assert not list(tmp_path.glob(f"out/runs/*/{ERROR}"))


RESULTS = [("steps", "3"), ("wall_s", None), ("history", [3]), ("loss_best", True), ("exact", 1)]


@pytest.mark.parametrize(("name", "value"), RESULTS)
def test_a_result_that_cannot_be_is_one_line(tmp_path, name, value):
    plain = dict.fromkeys(("train_nll", "test_draws_se", "wall_s", "cpu_s"), 0.5)
    plain |= {f"{k}_{w}": 0.5 for k in ("loss", "test") for w in ("final", "best")}
    plain |= {"steps": 3, "exact": True, "epochs_final": 1, "epochs_best": 1, "history": []}
    write_json(tmp_path / RESULT, plain)
    assert read_file(tmp_path / RESULT)["loss_best_se"] is None
    write_json(tmp_path / RESULT, {**plain, name: value})
    with pytest.raises(UserError, match=name):
        read_file(tmp_path / RESULT)


def test_a_run_that_ends_while_it_is_looked_at_is_done(tmp_path, monkeypatch):
    folder = run_folder(tmp_path, "r1")
    write_json(folder / PROGRESS, {"share": 0.5, "wall_s": 1.0})
    member = SimpleNamespace(id="r1", estimated_s=1.0)
    assert standing(tmp_path, member).state == "running"
    real = collect.read_file

    def end(path):
        if path.name == PROGRESS:
            plain = dict.fromkeys(("train_nll", "test_draws_se", "wall_s", "cpu_s"), 0.5)
            plain |= {f"{k}_{w}": 0.5 for k in ("loss", "test") for w in ("final", "best")}
            more = {"steps": 3, "exact": True, "epochs_final": 1, "epochs_best": 1, "history": []}
            write_json(folder / RESULT, plain | more)
            path.unlink()
        return real(path)

    monkeypatch.setattr(collect, "read_file", end)
    assert (standing(tmp_path, member).state, standing(tmp_path, member).left) == ("done", 0.0)


@pytest.mark.parametrize("run", ["../../x", "/etc", "a/../../../x", ""])
def test_the_id_of_a_run_stays_below_the_study(tmp_path, run):
    with pytest.raises(UserError, match="allowed: a path below"):
        run_folder(tmp_path, run)


def write_yaml(folder, root, **more):
    plain = {
        "families": {"ar": {"type": "autoregressive"}, "masked": {"type": "masked_diffusion"}},
        "grids": {"main": {"families": ["ar", "masked"], "width": [16], "unique_tokens": [200, 500], "epochs": [1, 3]}},
        "dataset": {"root": str(root), "validation_fraction": 0.34, "test_fraction": 0.34},
        "evaluation": EVALUATION,
        **more,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path


@pytest.fixture(scope="module")
def ran(lift_root, tmp_path_factory):
    """A study that went through Hydra's own launcher, in two jobs, in this process; one of its runs fails."""
    folder = tmp_path_factory.mktemp("ran")
    words = ["study", "run", f"study={write_yaml(folder, lift_root)}", f"out={folder / 'out'}"]
    data = StudyData(study(lift_root))
    bad = run_folder(folder / "out", expand(study(lift_root), data)[0].id)
    (bad / WEIGHTS).mkdir(parents=True)  # where a file shall be
    assert cli.main([*words, "launcher=basic", "jobs=2"]) == 2
    return words, folder / "out", bad


def test_a_failure_is_recorded_and_stops_nothing(ran, capsys):
    words, out, bad = ran
    states = [s.state for s in standings(out, read_study(out).members)]
    assert states == ["failed"] + ["done"] * 7
    assert json.loads((bad / ERROR).read_text())["tries"] == 2
    before = {p: p.stat().st_mtime_ns for p in out.rglob(f"runs/*/{RESULT}")}
    capsys.readouterr()
    assert cli.main(words) == 2
    told = capsys.readouterr()
    assert "nothing to execute" in told.out
    assert f"1 of 8 runs failed, the first, {bad.name}: IsADirectoryError" in told.err
    assert "retry_failed=true tries them again" in told.err
    assert "complete" not in told.out
    assert {p: p.stat().st_mtime_ns for p in out.rglob(f"runs/*/{RESULT}")} == before
    assert cli.main(["study", "status", f"out={out}"]) == 0
    assert "1 of 8 runs failed" in capsys.readouterr().out


def test_finished_runs_are_not_lost_to_another_study(ran, capsys):
    words, out, _ = ran
    before = (out / STUDY).read_bytes()
    for other in (["grids.main.epochs=[1]"], ["chunk_size=4"]):
        line = fails(capsys, *words, *other)
        assert "out: " in line
        assert "of 7 finished runs there are none of this study" in line
    assert (out / STUDY).read_bytes() == before


def test_a_study_wants_a_folder_of_its_own(ran, lift_root, tmp_path, capsys):
    words = ran[0][:-1]
    assert "meta/info.json is there" in fails(capsys, *words, f"out={lift_root}")
    assert not (lift_root / STUDY).exists()
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "where one can be made" in fails(capsys, *words, f"out={out}")


def test_the_table_can_be_fitted(ran, capsys):
    _, out, _ = ran
    assert cli.main(["study", "collect", f"out={out}"]) == 0
    assert "7 runs (1 of 8 are missing)" in " ".join(capsys.readouterr().out.split())
    rows = parquet.read_table(out / "runs.parquet").to_pylist()
    assert rows == table(out)
    for row in rows:
        assert row["tokens"] == row["unique_tokens"] * row["epochs"]
        assert row["loss_final_se"] > 0
        assert row["success"] is None
    for loss in ("loss_final", "loss_best", "test_best"):
        runs, _ = read_runs(out / "runs.parquet", loss)
        assert runs.families == ("ar", "masked")
        assert runs.loss.tolist() == [row[loss] for row in rows]
    # `fit` reads the table and says what is wrong with so small a one.
    words = ("fit", f"runs={out / 'runs.parquet'}", f"out={out / 'fit'}")
    assert "loss=loss_final" in fails(capsys, *words)
    assert "runs of ar: 3 given" in fails(capsys, *words, "loss=loss_final")
    assert "runs: 4 given" in fails(capsys, *words, "loss=loss_final", "families=[masked]")
    assert "families: 'maskd' given, allowed: ar, masked" in fails(capsys, *words, "families=[maskd]")


def test_processes_retry_and_give_the_same(ran, lift_root, capsys, tmp_path):
    """The failed run again, now by processes: still failing, then mended."""
    words, out, bad = ran
    (bad / WEIGHTS).rmdir()
    assert cli.main([*words, "workers=1", "retry_failed=true"]) == 0
    told = capsys.readouterr().out
    assert "1 runs executed" in told
    assert "complete; next" in told
    assert not (bad / ERROR).exists()
    first = read_study(out).members[0]
    data = StudyData(study(lift_root))
    alone = run_member(first.settings, data, HeldOut.of(data, 16, 16), tmp_path)
    together = read_json(bad / RESULT)
    assert {k: v for k, v in alone.items() if k not in TIMES} == {k: v for k, v in together.items() if k not in TIMES}


@pytest.mark.slow
def test_a_study_killed_three_times_gives_the_same_table(lift_root, tmp_path):
    grids = {"main": {"families": ["ar", "masked"], "width": [16, 32], "unique_tokens": [500], "epochs": [2, 60]}}
    path = write_yaml(tmp_path, lift_root, grids=grids)
    command = [sys.executable, "-m", "anyorder.cli", "study", "run", f"study={path}", "workers=2"]
    subprocess.run([*command, f"out={tmp_path / 'whole'}"], check=True)
    out = tmp_path / "killed"
    for wanted in (1, 3, 5):
        process = subprocess.Popen([*command, f"out={out}"])
        while len(list(out.glob(f"runs/*/{RESULT}"))) < wanted and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, "ended before it could be killed"
        process.kill()
        process.wait()
    subprocess.run([*command, f"out={out}"], check=True)

    def without_times(folder):
        return [{k: v for k, v in row.items() if k not in TIMES} for row in table(folder)]

    assert len(without_times(out)) == 8
    assert without_times(out) == without_times(tmp_path / "whole")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"grids": {"g": GridConfig(["arr"], [16], [400], [1])}}, "did you mean 'ar'"),
        ({"grids": {"g": GridConfig(["ar"], [16], [400], [])}}, r"grids.g.epochs: \[\] given"),
        ({"grids": {"g": GridConfig(["ar"], [20], [400], [1])}}, "a multiple of size.head_width = 16"),
        ({"grids": {"g": GridConfig(["ar"], [16], [10**9], [1])}}, "what the 2 training episodes have"),
        ({"grids": {"g": GridConfig(["masked"], [16], [400], [1], token_masking=[0.5])}}, "0 for masked"),
        ({"grids": {"g": GridConfig(["ar"], [16], [400], [1], max_flops=1.0)}}, "max_flops"),
        ({"grids": {}}, "at least one"),
        ({"families": {"ar": family("regression")}}, "a factorization of tokens"),
        (
            {
                "families": {"a": family("autoregressive"), "b": family("autoregressive")},
                "grids": {"g": GridConfig(["a", "b"], [16], [400], [1])},
            },
            "settings that differ from a's",
        ),
    ],
)
def test_bad_studies(changes, said, lift_root, data):
    with pytest.raises(ConfigError, match=said):
        expand(study(lift_root, **changes), data)


def test_all_that_is_too_large_for_a_small_dataset_is_said_at_once(lift_root, capsys):
    """And what it allows is enough."""
    words = ["study=pilot", f"dataset.root={lift_root}", "dry_run=true"]
    told = fails(capsys, "study", "run", *words)
    assert told.count("\n") == 1
    for name in ("validation", "test"):
        assert f"dataset.{name}_fraction: 0.05 given, allowed: 0.34 or more" in told
        words.append(f"dataset.{name}_fraction=0.34")
    assert "grids.main.unique_tokens: [1000, 4000] given, allowed: at most " in told
    most = told.split("grids.sweep.unique_tokens: [4000] given, allowed: at most ")[1].split()[0]
    alone = fails(capsys, "study", "run", *words)
    assert told.endswith(alone.removeprefix("anyorder study: "))
    sizes = [f"grids.{grid}.unique_tokens=[{most}]" for grid in ("main", "sweep")]
    assert cli.main(["study", "run", *words, *sizes]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "run, status, collect"),
        (["run", "study=/no/such.yaml"], "/no/such.yaml"),
        (["run", "study=actoins"], "did you mean 'actions'"),
        (["run", "study=pilot"], "dataset.root"),
        (["run", "study=pilot", "grids.main.widht=[16]"], "did you mean 'width'"),
        (["run", "study=pilot", "families.ar.type=autoregresive"], "did you mean 'autoregressive'"),
        (["run", "study=pilot", "evaluation.ratio=1"], "a number >= 1.001"),
        (["status", "out=/no/such/study"], "/no/such/study"),
        (["collect", "out=/no/such/study"], "/no/such/study"),
        (["run", "study=pilot", "keep_weights=none", "success.runs=2"], "keep_weights"),
    ],
)
def test_bad_words(words, said, capsys):
    assert said in fails(capsys, "study", *words)


def test_a_tokenizer_without_a_fixed_length_is_refused(lift_root):
    from anyorder.tokenizers import TokenizerConfig

    with pytest.raises(ConfigError, match="fixed length"):
        StudyData(study(lift_root, tokenizer=TokenizerConfig.named("fast")))


def test_a_missing_launcher_is_named(ran, lift_root, tmp_path, capsys):
    path = write_yaml(tmp_path, lift_root)
    words = [f"study={path}", f"out={tmp_path / 'out'}", "launcher=submitit_slurm"]
    assert "pip install hydra-submitit-launcher" in fails(capsys, "study", "run", *words)


@pytest.mark.parametrize("name", ["pilot", "actions"])
def test_ready_made_studies_are_whole(name):
    config = cli.settings("study", ["action=run", f"study={name}"])
    assert config.study == name
    for grid, axes in config.grids.items():
        axes.check(grid)
        assert set(axes.families) <= set(config.families)


def test_annealed_orders_are_random_in_the_first_half_of_a_run(lift_root, data):
    """And left to right in its last quarter, as the run's own steps count."""

    def losses(orders):
        families = {"ar": family("autoregressive", orders=orders)}
        grid = GridConfig(["ar"], [16], [500], [3])
        (member,) = expand(study(lift_root, families=families, grids={"g": grid}), data)
        training = Training(member.settings, data)
        seen = []
        while training.step < training.steps:
            training.advance()
            seen.append(torch.cat([p.detach().flatten() for p in training.learner.policy.parameters()]))
        return seen

    annealed, random = losses("annealed"), losses("random")
    half = len(annealed) // 2
    assert half > 2
    assert all(torch.equal(a, b) for a, b in zip(annealed[:half], random[:half], strict=True))
    assert not torch.equal(annealed[-1], random[-1])


def test_episodes_may_be_named(lift_root, data):
    """All of them by name are all of them; one that is not there is refused."""
    shares = {"validation_fraction": 0.34, "test_fraction": 0.34}
    named = study(lift_root, dataset=StudyDataset(root=str(lift_root), episodes=[0, 1, 2, 3, 4, 5], **shares))
    assert StudyData(named).fingerprint == data.fingerprint
    with pytest.raises(UserError, match=r"episodes: \[9\] given"):
        StudyData(study(lift_root, dataset=StudyDataset(root=str(lift_root), episodes=[9], **shares)))
