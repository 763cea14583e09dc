import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from lerobot.configs.default import DatasetConfig as LeRobotDatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from safetensors.torch import load_file, save_file

from anyorder import cli
from anyorder.commands.train import again
from anyorder.datasets.read.chunks import ActionChunks
from anyorder.envs import EnvConfig
from anyorder.errors import CheckpointError, ConfigError, DivergedError, EnvError
from anyorder.factorization import FactorizationConfig, LogProb
from anyorder.files import read_lines, write_json
from anyorder.networks import EncoderConfig, TransformerConfig, VisionConfig
from anyorder.policies import AnyOrderPolicy
from anyorder.reports.model_card import write_model_card
from anyorder.settings import to_plain
from anyorder.sums import SUMS
from anyorder.tokenizers import TokenizerConfig
from anyorder.training import checkpoint as checkpoints
from anyorder.training import loop, run_folder
from anyorder.training.accelerator import make_accelerator
from anyorder.training.checkpoint import load_policy, recorded_env
from anyorder.training.chunk_error import chunk_error
from anyorder.training.config import DatasetConfig, OptimizerConfig, RolloutDuringTraining, TrainConfig
from anyorder.training.data import load_chunks
from anyorder.training.evaluate import clustered_error
from anyorder.training.fresh import make_policy
from anyorder.training.learner import Learner, check_finite_norm
from anyorder.training.loop import train
from anyorder.training.metrics import read_metrics
from anyorder.training.optimizer import Schedule
from anyorder.training.order import BatchOrder
from anyorder.training.resume import check_output
from anyorder.training.run_folder import last_checkpoint, read_state, step_of
from anyorder.training.watch import Watch

TINY = {"steps": 12, "save_freq": 4, "eval_freq": 4, "log_freq": 1, "batch_size": 8, "eval_samples": 2}


class KilledError(Exception):
    pass


def config(root, run, family="autoregressive", **settings):
    factorization = FactorizationConfig.named(family)
    return TrainConfig(
        output_dir=str(run),
        dataset=DatasetConfig(root=str(root), validation_fraction=0.2),
        factorization=factorization,
        tokenizer=TokenizerConfig.named("dct" if factorization.build().needs_levels else "fast"),
        network=TransformerConfig(16, 1, 2, dropout=0.1),
        encoder=EncoderConfig(2, 16),
        device="cpu",
        progress=False,
        **{**TINY, "observation_noise": 0.01, **settings},
    )


def fresh_learner(run):
    return Learner.of(load_policy(run, "cpu"), Schedule(OptimizerConfig(), steps=1, seed=0))


def final_weights(run):
    last = last_checkpoint(run)
    state = last / "training_state"
    return [
        load_file(last / "pretrained_model" / "model.safetensors"),
        load_file(state / "weights.safetensors"),
        load_file(state / "optimizer_state.safetensors"),
    ]


def without_times(lines):
    return [{key: value for key, value in line.items() if key not in ("step_s", "data_s")} for line in lines]


def assert_same_run(one, other):
    for first, second in zip(final_weights(one), final_weights(other), strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert torch.equal(first[name], second[name]), name
    assert without_times(read_metrics(one)) == without_times(read_metrics(other))


@pytest.mark.parametrize("family", sorted(FactorizationConfig.choices))
def test_same_seed_same_run_and_killed_equals_undisturbed(family, lift_root, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config(lift_root, whole, family, steps=8))

    def die(self, done, loss):
        if done == 7:  # between two checkpoints, after metrics of later steps have been written
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("anyorder.training.progress.TrainingProgress.step", die)
        with pytest.raises(KilledError):
            train(config(lift_root, broken, family, steps=8))
    assert last_checkpoint(broken).name == "000004"
    train(config(lift_root, broken, family, steps=8, resume=True))
    assert_same_run(whole, broken)


def test_an_ensemble_killed_and_resumed_equals_undisturbed(lift_root, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = train(config(lift_root, whole, steps=8, ensemble=3))
    assert result.policy.config.ensemble == 3

    def die(self, done, loss):
        if done == 7:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("anyorder.training.progress.TrainingProgress.step", die)
        with pytest.raises(KilledError):
            train(config(lift_root, broken, steps=8, ensemble=3))
    train(config(lift_root, broken, steps=8, ensemble=3, resume=True))
    assert_same_run(whole, broken)
    loaded = load_policy(whole, "cpu")
    first, *others = [member.network.token_embedding.weight for member in (loaded, *loaded.others)]
    assert not any(torch.equal(first, other) for other in others)
    with pytest.raises(ConfigError, match="ensemble"):
        train(config(lift_root, broken, steps=8, ensemble=2, resume=True))


def test_kill_minus_nine_then_resume(lift_root, tmp_path):
    arguments = [
        f"dataset.root={lift_root}",
        "dataset.validation_fraction=0.2",
        "network={width: 16, depth: 1, heads: 2}",
        "encoder={tokens: 2, hidden: 16}",
        "steps=150",
        "save_freq=10",
        "eval_freq=100",
        "batch_size=8",
        "device=cpu",
        "progress=false",
    ]
    command = [sys.executable, "-m", "anyorder.cli", "train", *arguments]
    killed = subprocess.Popen([*command, f"output_dir={tmp_path / 'killed'}"])
    deadline = time.monotonic() + 120
    while last_checkpoint(tmp_path / "killed") is None and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    reached = int(last_checkpoint(tmp_path / "killed").name)
    assert reached < 150
    assert cli.main(["train", *arguments, f"output_dir={tmp_path / 'killed'}", "resume=true"]) == 0
    assert cli.main(["train", *arguments, f"output_dir={tmp_path / 'whole'}"]) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_a_kill_at_any_write_leaves_a_good_checkpoint(lift_root, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(config(lift_root, run, steps=4))

    for victim in ("save_file", "save_optimizer_state", "write_json", "os.replace", "os.fsync"):
        copy = shutil.copytree(run, tmp_path / victim, symlinks=True)

        def die(*_, **__):
            raise KilledError

        target = checkpoints if "." not in victim else os
        with monkeypatch.context() as patch:
            patch.setattr(target, victim.split(".")[-1], die)
            learner = fresh_learner(run)
            with pytest.raises(KilledError):
                checkpoints.save_checkpoint(copy, 8, learner, {}, keep=1)
        assert last_checkpoint(copy).name == "000004"
        load_policy(copy, "cpu")


@pytest.mark.parametrize("deleted", [0, 1, 3])
def test_a_kill_while_an_old_checkpoint_is_deleted_leaves_nothing(deleted, lift_root, tmp_path, monkeypatch):
    """At the end of a run no later save would clear it away."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(config(lift_root, whole, save_freq=2, steps=6))
    assert len(list((whole / "checkpoints").iterdir())) == 3
    remove, save = checkpoints.shutil.rmtree, loop.save_checkpoint

    def die(folder, **_):
        if not folder.exists():
            return
        for file in sorted(path for path in folder.rglob("*") if path.is_file())[:deleted]:
            file.unlink()
        raise KilledError

    def save_last(run, step, *arguments, **options):
        if step == 6:
            monkeypatch.setattr(checkpoints.shutil, "rmtree", die)
        return save(run, step, *arguments, **options)

    monkeypatch.setattr(loop, "save_checkpoint", save_last)
    with pytest.raises(KilledError):
        train(config(lift_root, broken, save_freq=2, steps=6))
    monkeypatch.setattr(checkpoints.shutil, "rmtree", remove)
    left = {path.name for path in (broken / "checkpoints").iterdir() if not path.name.startswith(".")}
    assert left == {path.name for path in (whole / "checkpoints").iterdir()}
    train(config(lift_root, broken, save_freq=2, steps=6, resume=True))
    assert_same_run(whole, broken)
    assert {path.name for path in (broken / "checkpoints").iterdir()} == left


def test_the_checkpoint_that_last_links_to_is_kept(lift_root, tmp_path):
    run = tmp_path / "run"
    train(config(lift_root, run, save_freq=2, steps=6, keep_checkpoints=3))
    checkpoints.link_last(run / "checkpoints" / "000002")
    checkpoints.prune(run, keep=1)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["000002", "000006", "last"]


def test_checkpoints_are_sorted_by_number(lift_root, tmp_path):
    run = tmp_path / "run"
    train(config(lift_root, run, steps=4))
    for name in ("999000", "999999"):
        shutil.copytree(run / "checkpoints" / "000004", run / "checkpoints" / name)
    learner = fresh_learner(run)
    (run / "checkpoints" / ".001000.tmp").mkdir()  # a kill leaves this
    for step in (1_000_000, 1_000_001):
        checkpoints.save_checkpoint(run, step, learner, {}, keep=2)
        assert last_checkpoint(run).name == str(step)
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert found == ["1000000", "1000001", "last"]


@pytest.mark.parametrize("how", ["dangles", "is gone"])
def test_a_run_whose_last_link_leads_nowhere_goes_on_from_its_newest_checkpoint(how, lift_root, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(config(lift_root, whole))
    shutil.copytree(whole, run, symlinks=True)
    shutil.rmtree(run / "checkpoints" / "000012")
    if how == "is gone":
        (run / "checkpoints" / "last").unlink()
    assert last_checkpoint(run).name == "000008"
    load_policy(run, "cpu")
    train(config(lift_root, run, resume=True))
    assert_same_run(whole, run)


def make_checkpoint(run, name, step):
    write_json(run / "checkpoints" / name / "training_state" / "state.json", {"step": step, "averaged": 3})


def test_a_last_that_is_a_folder_has_the_step_of_its_state(tmp_path):
    make_checkpoint(tmp_path, "last", 8)
    folder = tmp_path / "checkpoints"
    assert (last_checkpoint(tmp_path), step_of(folder / "last")) == (folder / "last", 8)
    make_checkpoint(tmp_path, "000004", 4)
    assert last_checkpoint(tmp_path).name == "last"
    make_checkpoint(tmp_path, "000008", 8)
    assert last_checkpoint(tmp_path).name == "000008"
    (folder / "last" / "training_state" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json: step: None given"):
        last_checkpoint(tmp_path)
    (folder / "last" / "training_state" / "state.json").unlink()  # a policy alone
    assert [path.name for path in run_folder.checkpoints(tmp_path)] == ["last", "000004", "000008"]


@pytest.mark.parametrize(
    ("state", "there", "kept"), [(4, "000004", []), (4, "000002", ["000004"]), (None, "000004", ["last.000008"])]
)
def test_a_last_that_is_a_folder_gives_way_and_is_kept(state, there, kept, tmp_path):
    folder = tmp_path / "checkpoints"
    make_checkpoint(tmp_path, there, int(there))
    make_checkpoint(tmp_path, "000008", 8)
    make_checkpoint(tmp_path, "last", state)
    if state is None:
        (folder / "last" / "training_state" / "state.json").unlink()
    run_folder.link_last(folder / "000008")
    assert sorted(path.name for path in folder.iterdir()) == sorted([there, "000008", "last", *kept])
    assert last_checkpoint(tmp_path) == folder / "000008"


def test_a_copy_whose_last_became_a_folder_goes_on(lift_root, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(config(lift_root, whole, steps=4, save_freq=2))
    shutil.copytree(whole, run, symlinks=True)
    folder = run / "checkpoints"
    (folder / "last").unlink()
    (folder / "000002").rename(folder / "last")
    shutil.rmtree(folder / "000004")
    settings = config(lift_root, run, steps=4, save_freq=2, resume=True)
    assert again(settings) == "goes on from step 2"
    with pytest.raises(DivergedError, match="from the checkpoint of step 2"), Watch(run, settings):
        raise DivergedError("loss")
    card = write_model_card(folder / "last" / "pretrained_model", run)
    assert "| optimiser steps | 2 |" in card.read_text()
    train(settings)
    assert_same_run(whole, run)
    assert sorted(path.name for path in folder.iterdir()) == ["000002", "000004", "last"]
    assert (folder / "last").is_symlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"optimizer": 3}, "optimizer: 3 given, allowed: settings"),
        ({"dataset": [1]}, "dataset: [1] given, allowed: settings"),
        ({"network": None}, "network: None given, allowed: settings"),
        ({"factorization": {"type": "nope"}}, "factorization.type: 'nope' given, allowed: "),
        ({"factorization": {"type": []}}, "factorization.type: [] given, allowed: "),
    ],
)
def test_settings_changed_by_hand_are_one_line_that_names_the_file(change, said, tmp_path):
    settings = config("data", tmp_path, resume=True)
    (tmp_path / "train_config.json").write_text(json.dumps({**to_plain(settings), **change}))
    with pytest.raises(CheckpointError, match=re.escape(f"train_config.json: {said}")):
        check_output(tmp_path, settings)


def test_settings_that_lack_a_part_have_its_defaults(tmp_path):
    settings = config("data", tmp_path, resume=True)
    plain = to_plain(settings)
    del plain["optimizer"]
    (tmp_path / "train_config.json").write_text(json.dumps(plain))
    assert loop.read_settings(tmp_path)["optimizer"] == loop.as_json(to_plain(OptimizerConfig()))
    assert check_output(tmp_path, settings) is None


@pytest.mark.parametrize("saved", [[1], "x", 3])
def test_data_changed_by_hand_is_one_line_that_names_the_file(saved, tmp_path):
    (tmp_path / "data.json").write_text(json.dumps({"dataset": saved}))
    with pytest.raises(CheckpointError, match=r"data\.json: dataset: .* given, allowed: settings by name"):
        loop.check_data(tmp_path, {"frames": [1, 1]})


def test_a_run_without_its_checkpoints_keeps_its_metrics(lift_root, tmp_path):
    run = tmp_path / "run"
    train(config(lift_root, run))
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="metrics up to step 12 without a checkpoint"):
        train(config(lift_root, run, resume=True))
    assert (run / "metrics.jsonl").read_bytes() == before


def test_emptied_settings_are_those_of_the_last_checkpoint(lift_root, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(config(lift_root, whole))
    train(config(lift_root, run))
    shutil.rmtree(run / "checkpoints" / "000012")
    (run / "train_config.json").write_text("")
    with pytest.raises(ConfigError, match="another batch_size"):
        train(config(lift_root, run, resume=True, batch_size=4))
    train(config(lift_root, run, resume=True))
    assert_same_run(whole, run)
    assert json.loads((run / "train_config.json").read_text())["batch_size"] == 8


def test_damaged_settings_are_one_line_that_names_the_file(lift_root, tmp_path):
    run = tmp_path / "run"
    train(config(lift_root, run, steps=4))
    (run / "train_config.json").write_text('{"steps": ')
    with pytest.raises(CheckpointError, match=r"train_config\.json") as error:
        train(config(lift_root, run, steps=4, resume=True))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["x", "[1]", '{"loss": 1}', '{"step": "7"}', '{"step": -1}', '{"step": 7, "loss": "low"}', '{"step": 1.5}', "\xff"],
)
def test_a_damaged_line_of_metrics_is_named(line, tmp_path):
    text = f'{{"step": 1, "train_loss": 0.5}}\n{line}\n{{"step": 2, "train_loss": NaN}}\n{{"st'
    (tmp_path / "metrics.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl(, line 2)?: "):
        read_metrics(tmp_path)


def test_a_line_of_metrics_that_has_no_room_leaves_no_part(tmp_path):
    """A file may not grow beyond 100 bytes, as on a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from anyorder.files import append_line\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "path = Path(sys.argv[1])\n"
        "append_line(path, {'a': 'a' * 40})\n"
        "try:\n    append_line(path, {'a': 'b' * 40})\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "x"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told == "File too large\n"
    (line,) = read_lines(tmp_path / "x")
    assert line == {"a": "a" * 40}


def test_checkpoints_load_as_the_averaged_policy(lift_root, tmp_path):
    result = train(config(lift_root, tmp_path / "run"))
    loaded = load_policy(tmp_path / "run", "cpu")
    batch = ActionChunks.load(lift_root, horizon=8).batch([0, 5])
    for policy in (result.policy, loaded):
        policy.manual_seed(3)
    assert torch.equal(result.policy.predict_action_chunk(batch), loaded.predict_action_chunk(batch))
    kept = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["000008", "000012", "last"]


def test_a_run_is_never_overwritten_nor_resumed_with_other_settings(lift_root, tmp_path):
    train(config(lift_root, tmp_path / "run", steps=4))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="output_dir"):
        train(config(lift_root, tmp_path / "run", steps=4))
    with pytest.raises(ConfigError, match="batch_size"):
        train(config(lift_root, tmp_path / "run", steps=4, batch_size=4, resume=True))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("derived", [{}, {"eval_freq": 3}, {"eval_freq": 3, "save_freq": 6}])
def test_more_steps_on_resume_are_named_not_what_is_derived_from_them(tmp_path, derived):
    run, data = tmp_path / "run", DatasetConfig(root="data")
    run.mkdir()
    write_json(run / "train_config.json", to_plain(TrainConfig(output_dir=str(run), dataset=data, steps=30)))
    longer = TrainConfig(output_dir=str(run), dataset=data, steps=60, resume=True, **derived)
    with pytest.raises(ConfigError, match="resume with another steps: 60 given, allowed: 30, as before"):
        check_output(run, longer)
    other = TrainConfig(output_dir=str(run), dataset=data, steps=30, save_freq=5, resume=True)
    with pytest.raises(ConfigError, match="resume with another save_freq: 5 given, allowed: 6, as before"):
        check_output(run, other)


def test_a_finished_run_resumes_to_itself(lift_root, tmp_path):
    first = train(config(lift_root, tmp_path / "run", steps=4))
    second = train(config(lift_root, tmp_path / "run", steps=4, resume=True))
    assert first.validation == second.validation


def test_resuming_from_a_checkpoint_with_a_missing_file_is_refused(lift_root, tmp_path):
    train(config(lift_root, tmp_path / "run", steps=4))
    (last_checkpoint(tmp_path / "run") / "training_state" / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"weights\.safetensors"):
        train(config(lift_root, tmp_path / "run", steps=4, resume=True))


def test_damage_is_named_before_the_data_are_read_and_older_checkpoints_are_accepted(lift_root, tmp_path, monkeypatch):
    train(config(lift_root, tmp_path / "run", steps=4))
    again = config(lift_root, tmp_path / "run", steps=4, resume=True)
    checkpoint = last_checkpoint(tmp_path / "run")
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != SUMS]
    assert len(files) == 9
    with monkeypatch.context() as patch:
        patch.setattr("anyorder.training.loop.load_chunks", lambda *_, **__: pytest.fail("reads the data"))
        for path in [*files, tmp_path / "run" / "train_config.json"]:
            good = path.read_bytes()
            path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
            with pytest.raises(CheckpointError, match=re.escape(path.name)) as error:
                train(again)
            assert "\n" not in str(error.value)
            path.write_bytes(good)
    for path in checkpoint.rglob(SUMS):
        path.unlink()
    train(again)


@pytest.mark.parametrize("text", ["{}", '{"step": "4", "averaged": 4}', '{"step": -1, "averaged": 4}', "[4]"])
def test_a_state_that_cannot_be_is_one_line(lift_root, tmp_path, text):
    train(config(lift_root, tmp_path / "run", steps=4))
    folder = last_checkpoint(tmp_path / "run") / "training_state"
    (folder / SUMS).unlink()
    (folder / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json: "):
        train(config(lift_root, tmp_path / "run", steps=4, resume=True))


def test_a_state_with_more_than_is_declared_is_read(tmp_path):
    (tmp_path / "training_state").mkdir()
    (tmp_path / "training_state" / "state.json").write_text('{"step": 4, "averaged": 2, "note": "mine"}')
    assert read_state(tmp_path)["step"] == 4


METRICS = [
    ('{"step": 1, "loss": "low"}\n', "line 1: loss: 'low' given, allowed: a number"),
    ('{"step": 1}\n{"stpe": 2}\n', "line 2: step: None given, allowed: an integer"),
    ('{"step": 1}\n[2]\n', "line 2: JSON of list given"),
    ('{"step": true}\n', "line 1: step: True given"),
    ('{"step": 1, "loss": 2}\n{"loss": 3, "step": 1}\n', "line 2: step: 1 given, allowed: each"),
    ('{"step": 1, "crc32": "00000000"}\n', "line 1: changed since it was written"),
    ('{"step": 1}\n\x00\n', "line 2: "),
    ('{"step": 1}\n\x00\x00', "after line 1: "),
    ('{"step": 1}\ngarbage', "after line 1: 'garbage' given"),
]


@pytest.mark.parametrize(("text", "line"), METRICS)
def test_metrics_that_cannot_be_are_one_line(tmp_path, text, line):
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(CheckpointError, match=re.escape(line)):
        read_metrics(tmp_path)


def test_half_written_metrics_are_skipped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_success_is_measured_along_the_way(lift_root, tmp_path):
    rollouts = RolloutDuringTraining(episodes=2, freq=4)
    train(config(lift_root, tmp_path / "run", "regression", steps=8, rollout=rollouts))
    steps = [line["step"] for line in read_metrics(tmp_path / "run") if "success_rate" in line]
    assert steps == [4, 8]


def test_observations_can_be_chosen_and_are_checked(lift_root, tmp_path):
    deployable = config(lift_root, tmp_path / "run", "regression", steps=2)
    deployable.dataset.observations = ["observation.state"]
    assert list(train(deployable).policy.required_features) == ["observation.state"]
    wrong = config(lift_root, tmp_path / "wrong", steps=2)
    wrong.dataset.observations = ["observation.stat"]
    with pytest.raises(ConfigError, match=r"did you mean 'observation\.state'"):
        train(wrong)


def test_batch_order_visits_every_frame_once_an_epoch_and_knows_no_history():
    order = BatchOrder(frames=10, batch_size=4, seed=0)
    rows = torch.cat([order.rows(step) for step in range(5)])
    assert sorted(rows[:10].tolist()) == sorted(rows[10:].tolist()) == list(range(10))
    assert torch.equal(BatchOrder(10, 4, 0).rows(3), order.rows(3))
    assert not torch.equal(rows[:10], rows[10:])


@pytest.mark.slow
def test_two_ranks_give_one_ranks_losses(lift_root, tmp_path):
    common = [
        f"dataset.root={lift_root}",
        "dataset.validation_fraction=0.2",
        "network={width: 16, depth: 1, heads: 2}",
        "steps=6",
        "log_freq=1",
        "batch_size=8",
        "device=cpu",
        "progress=false",
    ]
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    two += ["--master_port=29533", "-m", "anyorder.cli", "train", *common, f"output_dir={tmp_path / 'two'}"]
    assert cli.main(["train", *common, f"output_dir={tmp_path / 'one'}"]) == 0
    subprocess.run(two, check=True)

    def losses(run):
        return [line["train_loss"] for line in read_metrics(run) if "train_loss" in line]

    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


def test_standard_error_is_between_episodes():
    values = torch.tensor([1.0, 1.0, 1.0, 3.0, 3.0, 3.0])
    assert clustered_error(values, torch.tensor([0, 0, 0, 1, 1, 1])) == pytest.approx(1.0)
    assert clustered_error(values, torch.zeros(6)) is None


def test_settings_travel_with_the_checkpoint(lift_root, tmp_path):
    train(config(lift_root, tmp_path / "run", steps=2))
    folder = last_checkpoint(tmp_path / "run") / "pretrained_model"
    saved = json.loads((folder / "train_config.json").read_text())
    assert saved["factorization"]["type"] == "autoregressive"
    assert saved["recorded_env"]["task"] == "lift"


def test_lerobots_checkpoints_know_the_environment_by_their_dataset(lift_copy, tmp_path):
    folder = tmp_path / "pretrained_model"
    folder.mkdir()
    TrainPipelineConfig(LeRobotDatasetConfig("local/lift", root=str(lift_copy))).save_pretrained(folder)
    assert recorded_env(folder) == EnvConfig.named("so101", task="lift")
    shutil.rmtree(lift_copy)
    with pytest.raises(EnvError, match=rf"env: None given, allowed: env=NAME, as the dataset {lift_copy}"):
        recorded_env(folder)


def test_a_camera_policy_killed_and_resumed_equals_undisturbed(pictures_root, tmp_path, monkeypatch):
    vision = VisionConfig(width=16, features=8, keypoints=4, crop=0.9, jitter=0.2, dropout=0.2)
    settings = {"n_obs_steps": 2, "chunk_size": 4, "n_action_steps": 2}

    def run(folder, **more):
        made = config(pictures_root, folder, "regression", **settings, **more)
        made.encoder = EncoderConfig(2, 16, vision=vision)
        made.dataset.observations = ["observation.state", "observation.images.top"]
        made.dataset.validation_fraction = 0.5
        return train(made)

    run(tmp_path / "whole")
    save = loop.save_checkpoint

    def save_and_die(*arguments, **options):
        save(*arguments, **options)
        raise KilledError

    monkeypatch.setattr(loop, "save_checkpoint", save_and_die)
    with pytest.raises(KilledError):
        run(tmp_path / "broken")
    monkeypatch.undo()
    policy = run(tmp_path / "broken", resume=True).policy
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert policy.config.observation_spec.cameras == {"observation.images.top": (3, 24, 32)}
    assert policy.config.tasks == ["Lift.", "Push."]


def with_lines(chunks, speeds):
    """The same chunks whose actions are lines in time, of these speeds a frame."""
    line = chunks.columns["frame_index"].float()[:, None] * torch.tensor(speeds)
    return replace(chunks, columns={**chunks.columns, "action": line})


def test_chunk_error_beside_predictors_that_learn_nothing(lift_root, tmp_path):
    """On a line in time moving on as before is exact, and the policy is measured on what was demonstrated."""
    settings = config(lift_root, tmp_path / "unused")
    train_chunks, held_out = load_chunks(settings.dataset, settings.chunk_size)
    size = held_out.columns["action"].shape[1]
    # Training episodes move three times as fast, so their ranges hold what is held out; the last one never moves in
    # training: it is left out, not divided by zero, though it moves in what is held out.
    train_chunks = with_lines(train_chunks, [3 * (i + 1) / 7 for i in range(size - 1)] + [0.0])
    held_out = with_lines(held_out, [(i + 1) / 7 for i in range(size)])
    policy = make_policy(settings, held_out)

    def measured():
        return chunk_error(policy, held_out, train=train_chunks, limit=10_000, seed=0)

    error = measured()
    assert error.constant_velocity == pytest.approx(0, abs=1e-5)
    frames = int(train_chunks.lengths.max()) - 1  # of the longest training episode, from its first
    half = 3 / 7 * frames / 2  # of the first dimension
    ahead = (settings.chunk_size + 1) / 2  # steps on average, where the episode does not end before
    assert error.hold == pytest.approx(ahead / 7 / half, rel=0.15)
    policy.predict_action_chunk = lambda batch: batch["action"]
    assert measured().policy == 0
    policy.predict_action_chunk = lambda batch: batch["action"] + half / 10
    off = torch.tensor([1 / (i + 1) for i in range(size - 1)]).mean() / 10
    assert measured().policy == pytest.approx(float(off), rel=1e-4)


def test_a_joint_that_hardly_moves_in_the_held_out_episode_does_not_swell_the_chunk_error(lift_root, tmp_path):
    settings = config(lift_root, tmp_path / "unused")
    train_chunks, held_out = load_chunks(settings.dataset, settings.chunk_size)
    size = held_out.columns["action"].shape[1]
    train_chunks = with_lines(train_chunks, [1.0] * size)
    held_out = with_lines(held_out, [1e-4, *[1.0] * (size - 1)])
    policy = make_policy(settings, train_chunks)
    half = (int(train_chunks.lengths.max()) - 1) / 2
    policy.predict_action_chunk = lambda batch: batch["action"] + half / 10
    error = chunk_error(policy, held_out, train=train_chunks, limit=10_000, seed=0)
    assert error.policy == pytest.approx(0.1, rel=1e-4)


def test_moving_on_as_before_stays_within_the_ranges_of_training(lift_root, tmp_path):
    settings = config(lift_root, tmp_path / "unused")
    train_chunks, held_out = load_chunks(settings.dataset, settings.chunk_size)
    size = held_out.columns["action"].shape[1]
    train_chunks = with_lines(train_chunks, [1.0] * size)
    top = int(train_chunks.lengths.max()) - 1
    # It starts where the ranges of training end and goes on: the guess stays there, as the last action does nearly.
    held_out = with_lines(held_out, [1.0] * size)
    held_out.columns["action"].add_(top)
    policy = make_policy(settings, train_chunks)
    error = chunk_error(policy, held_out, train=train_chunks, limit=1, seed=0)
    # The first chunk with two actions before it begins at frame 2 and reads the frames 2 ... chunk_size + 1.
    off = sum(range(2, settings.chunk_size + 2)) / settings.chunk_size
    assert error.constant_velocity == pytest.approx(off / (top / 2), rel=1e-5)


def orders(root, run, kind, **settings):
    """A run of 8 steps in these orders; annealed ones are random in its first half."""
    changed = replace(config(root, run, **{"steps": 8, **settings}), factorization=family("autoregressive", kind))
    train(changed)
    return read_metrics(run)


def family(name, orders):
    return FactorizationConfig.named(name, orders=orders)


def test_annealed_orders_are_random_at_first_and_left_to_right_in_the_end(lift_root, tmp_path):
    kinds = {kind: orders(lift_root, tmp_path / kind, kind) for kind in ("annealed", "random")}
    steps = {kind: {m["step"]: m["train_loss"] for m in found if "train_loss" in m} for kind, found in kinds.items()}
    # At step 5 half of training is done, and half of the steps until 3/4 draw random orders.
    assert [steps["annealed"][i] for i in range(1, 6)] == [steps["random"][i] for i in range(1, 6)]
    assert steps["annealed"][8] != steps["random"][8]
    # What is validated and saved has the orders of that moment: at the end the very likelihood.
    scored = {m["step"]: (m["val_loss"], m["val_nll_nats_per_chunk"]) for m in kinds["annealed"] if "val_loss" in m}
    assert scored[8][0] == pytest.approx(scored[8][1], rel=1e-6)
    assert scored[4][0] != pytest.approx(scored[4][1], rel=1e-3)


def test_annealed_orders_survive_a_resume(lift_root, tmp_path):
    orders(lift_root, tmp_path / "whole", "annealed")
    broken = replace(
        config(lift_root, tmp_path / "broken", steps=8), factorization=family("autoregressive", "annealed")
    )
    train(broken)
    for name in ("000008", "last"):
        path = tmp_path / "broken" / "checkpoints" / name
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    (tmp_path / "broken" / "checkpoints" / "last").symlink_to("000004")
    train(replace(broken, resume=True))
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_run_with_settings_that_did_nothing_resumes_without_them(tmp_path):
    now = config("data", tmp_path / "run", "regression", resume=True)
    plain = to_plain(now) | {"temperature": 0.7, "nucleus": 0.5}
    plain["rollout"]["freq"] = 5
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train_config.json").write_text(json.dumps(plain))
    assert check_output(tmp_path / "run", now) is None


def test_accelerate_takes_the_device_that_was_named_or_none(monkeypatch):
    assert make_accelerator("cpu").device.type == "cpu"
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
    with pytest.raises(ConfigError, match=r"device: 'mps' given, allowed: null or cpu, as accelerate"):
        make_accelerator("mps")


def test_a_run_whose_settings_are_older_resumes_with_what_they_meant(tmp_path):
    def masked(**options):
        return replace(
            config("data", tmp_path / "run", steps=8, resume=True),
            factorization=FactorizationConfig.named("masked_diffusion", **options),
        )

    plain = to_plain(masked(steps=32))
    for name in ("steps", "sampling_schedule"):
        del plain["factorization"][name]
    del plain["network"]["attention_dropout"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train_config.json").write_text(json.dumps(plain))
    assert check_output(tmp_path / "run", masked(steps=32)) is None
    with pytest.raises(ConfigError, match=r"another factorization.steps: 0 given, allowed: 32, as before"):
        check_output(tmp_path / "run", masked())
    with pytest.raises(ConfigError, match=r"another factorization.sampling_schedule: 'md4' given, allowed: None"):
        check_output(tmp_path / "run", masked(steps=32, sampling_schedule="md4"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 1e38, "weight_decay": 0.0}, ("training at step 1: ", "optimizer.lr (1e+38)")),
        ({"lr": 1e300, "grad_clip_norm": 1e308}, ("training at step 1: ", "grad_clip_norm (1e+308)")),
    ],
)
def test_a_training_that_diverges_ends_in_one_line_and_saves_nothing(changes, said, lift_root, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(DivergedError) as error:
        train(config(lift_root, run, steps=1, optimizer=OptimizerConfig(**changes)))
    assert all(part in str(error.value) for part in said)
    assert "resume=true begins again, as there is no checkpoint yet" in str(error.value)
    assert "\n" not in str(error.value)
    assert last_checkpoint(run) is None


@pytest.mark.parametrize("what", ["loss", "gradient", "weight", "average", "score"])
def test_the_last_good_checkpoint_stays_and_a_lower_rate_goes_on_from_it(what, lift_root, tmp_path, monkeypatch):
    run = tmp_path / "run"
    real = Learner.optimize

    def spoil(learner, batch, step):
        found, model = real(learner, batch, step), learner.policy
        if step == 5:
            with torch.no_grad():
                if what == "loss":
                    batch = {**batch, "action": batch["action"].clone()}
                    model.encoder.mlp[-1].bias.fill_(torch.nan)
                    model(batch)
                elif what == "gradient":
                    check_finite_norm(torch.tensor(torch.inf))
                elif what in ("weight", "average"):
                    next(model.parameters()).view(-1)[0] = torch.nan
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "optimize", spoil)
        if what == "score":
            nlls = AnyOrderPolicy.code_log_prob

            def endless(*args, **options):
                found = nlls(*args, **options)
                return LogProb(torch.full_like(found.value, torch.inf), found.standard_error)

            patch.setattr(AnyOrderPolicy, "code_log_prob", endless)
            with pytest.raises(DivergedError, match="validation NLL: -inf given"):
                train(config(lift_root, run, steps=8, save_freq=4, eval_freq=6))
        else:
            said = "goes on from the checkpoint of step 4"
            with pytest.raises(DivergedError, match=f"training at step 6: .*{said}"):
                train(config(lift_root, run, steps=8, save_freq=2 if what == "average" else 4, eval_freq=6))
    assert last_checkpoint(run).name == "000004"
    load_policy(run, "cpu")
    lower = OptimizerConfig(lr=1e-4)
    freqs = {"save_freq": 2 if what == "average" else 4, "eval_freq": 6}
    train(config(lift_root, run, steps=8, **freqs, resume=True, optimizer=lower))
    assert last_checkpoint(run).name == "000008"
    assert json.loads((run / "train_config.json").read_text())["optimizer"]["lr"] == 1e-4


@pytest.mark.parametrize("file", ["training_state/weights", "pretrained_model/model", "training_state/optimizer_state"])
def test_a_run_is_not_resumed_from_numbers_that_are_not_finite(file, lift_root, tmp_path):
    run = tmp_path / "run"
    train(config(lift_root, run, steps=4, save_freq=4))
    path = last_checkpoint(run) / f"{file}.safetensors"
    saved = load_file(path)
    name = next(name for name, values in saved.items() if values.is_floating_point() and values.numel() > 1)
    saved[name].view(-1)[0] = torch.nan
    save_file(saved, path)
    for sums in last_checkpoint(run).rglob(SUMS):
        sums.unlink()
    with pytest.raises(CheckpointError, match="finite"):
        train(config(lift_root, run, steps=4, save_freq=4, resume=True))
