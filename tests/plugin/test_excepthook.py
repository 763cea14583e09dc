"""One line and exit status 2 for bad input in LeRobot's commands."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import draccus
import pytest
from lerobot.configs import PreTrainedConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.datasets.factory import make_dataset
from lerobot.envs.configs import EnvConfig
from lerobot.policies.act.configuration_act import ACTConfig

import lerobot_policy_anyorder  # noqa: F401  (registers the types)
from anyorder.plugin.excepthook import missing_policy, unreadable_dataset, user_error
from anyorder.policies import AnyOrderConfig
from tests.plugin.saved import policy, save

PROGRAM = """
from anyorder.errors import ConfigError
from anyorder.plugin import excepthook

excepthook.install()
try:
    raise {inner}
except Exception as error:
    raise {outer}
"""


def run(folder, name, inner="ConfigError('task: 1 given,\\n allowed: 2')", outer="error"):
    script = folder / name
    script.write_text(PROGRAM.format(inner=inner, outer=outer))
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("outer", ["error", "RuntimeError('wrapped') from error"])
def test_a_user_error_in_a_command_of_lerobot_is_one_line(tmp_path, outer):
    done = run(tmp_path, "lerobot-eval", outer=outer)
    assert (done.returncode, done.stderr) == (2, "lerobot-eval: task: 1 given, allowed: 2\n")


def test_other_errors_and_other_programs_keep_their_traceback(tmp_path):
    other_error = run(tmp_path, "lerobot-eval", inner="ValueError('a bug')")
    other_program = run(tmp_path, "my_script.py")
    for done in (other_error, other_program):
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(
    ("kind", "settings", "line"),
    [
        (PreTrainedConfig, {"type": "anyorder", "chunk_size": 0}, "chunk_size: 0 given, allowed: an integer"),
        (PreTrainedConfig, {"type": "anyorder", "factorization": "masked_difusion"}, "did you mean"),
        (
            PreTrainedConfig,
            {"type": "anyorder", "factorization_options": {"stepps": 3}},
            "factorization.stepps: 3 given",
        ),
        (EnvConfig, {"type": "anyorder_metaworld", "task": "drawer-opn-v3"}, "did you mean"),
    ],
)
def test_a_wrong_setting_names_its_cause(kind, settings, line, monkeypatch):
    # lerobot-train reads both as optional, and draccus then says only that no type would do; nothing ends the process.
    monkeypatch.setattr(sys, "argv", ["lerobot-train"])
    with pytest.raises(draccus.utils.DraccusException) as raised:
        draccus.decode(kind | None, settings)
    told = user_error(raised.value)
    assert "\n" not in str(told)
    assert line in str(told)


@dataclasses.dataclass
class Command:
    """What one of LeRobot's commands has: a policy among its settings."""

    policy: PreTrainedConfig | None = None


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"chunk_size": 0}, "policy.chunk_size: 0 given"),
        ({"encoder": {"vision": {"width": 20}}}, "policy.encoder.vision.width: 20 given, allowed: a multiple of 8"),
        ({"network": {"heads": 0}}, "policy.network.heads: 0 given"),
        ({"factorization_options": {"k": "x"}}, "policy.factorization.k: 'x' given, allowed: an integer"),
    ],
)
def test_a_wrong_setting_is_named_as_the_command_line_does(settings, line):
    with pytest.raises(draccus.utils.DraccusException) as raised:
        draccus.decode(Command, {"policy": {"type": "anyorder", **settings}})
    assert str(user_error(raised.value)).startswith(line)
    assert str(user_error(raised.value)).startswith(line)  # also when asked again


@pytest.mark.slow
def test_a_command_of_lerobot_ends_with_the_line_of_a_wrong_setting(tmp_path):
    words = ["--dataset.repo_id=local/none", "--policy.type=anyorder", "--policy.push_to_hub=false"]
    command = Path(sys.executable).parent / "lerobot-train"
    done = subprocess.run(
        [command, *words, "--policy.chunk_size=0", f"--output_dir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 2
    assert said == "lerobot-train: policy.chunk_size: 0 given, allowed: an integer >= 1 and <= 1000000"


def lerobots_error(root, policy=AnyOrderConfig):
    """What `lerobot-train` raises when it opens a dataset."""
    dataset = DatasetConfig("local/lift", root=str(root))
    try:
        make_dataset(TrainPipelineConfig(dataset, policy=policy(push_to_hub=False)))
    except Exception as error:
        return error
    raise AssertionError("LeRobot can open it")


def set_info(root, text):
    (root / "meta" / "info.json").write_text(text)


def test_a_dataset_of_another_version_names_it(lift_copy):
    info = json.loads((lift_copy / "meta" / "info.json").read_text())
    set_info(lift_copy, json.dumps({**info, "codebase_version": "v1.6"}))
    found = unreadable_dataset(lerobots_error(lift_copy))
    assert str(found).startswith("dataset version: 'v1.6' given, allowed: v3.0")
    set_info(lift_copy, json.dumps({**info, "codebase_version": "v2.1"}))
    assert "anyorder convert source=" in str(unreadable_dataset(lerobots_error(lift_copy)))
    set_info(lift_copy, "{")
    found = unreadable_dataset(lerobots_error(lift_copy))
    assert str(found).startswith(f"dataset.root: {str(lift_copy)!r} given, allowed: a LeRobot dataset of version")


def test_a_missing_dataset_names_its_folder_and_why_the_hub_gave_none(lift_copy):
    shutil.rmtree(lift_copy)
    line = str(unreadable_dataset(lerobots_error(lift_copy)))
    assert line.startswith(f"dataset.root: {str(lift_copy)!r} given, allowed: ")
    assert "or dataset.repo_id with its name on the hub (" in line
    assert "offline" in line


def test_a_damaged_dataset_names_the_file(lift_copy):
    for file in (lift_copy / "data").rglob("*.parquet"):
        file.write_bytes(b"nonsense")
    assert str(unreadable_dataset(lerobots_error(lift_copy))).startswith("dataset file: ")


def test_what_else_goes_wrong_with_a_dataset_keeps_its_traceback(lift_copy):
    (lift_copy / "meta" / "stats.json").write_text("nonsense")
    assert unreadable_dataset(lerobots_error(lift_copy)) is None
    shutil.rmtree(lift_copy)
    assert unreadable_dataset(lerobots_error(lift_copy, ACTConfig)) is None
    interrupted = KeyboardInterrupt().with_traceback(lerobots_error(lift_copy).__traceback__)
    assert unreadable_dataset(interrupted) is None


@pytest.mark.parametrize("inside", ["pretrained_model", "checkpoints/last/pretrained_model"])
def test_a_folder_above_the_policy_names_the_policys(inside, tmp_path):
    folder = save(policy("regression"), tmp_path / "run" / inside)
    with pytest.raises(FileNotFoundError) as caught:
        PreTrainedConfig.from_pretrained(tmp_path / "run")
    assert str(missing_policy(caught.value)) == f"policy.path: '{tmp_path / 'run'}' given, allowed: {folder}"
    assert missing_policy(FileNotFoundError("another file")) is None


@pytest.mark.parametrize("given", ["empty", "out/nope", "runs/lift/checkpoints/nope"])
def test_a_path_without_a_policy_is_named(given, tmp_path, monkeypatch):
    # An empty folder; what is no folder is a name on the hub to LeRobot, and one with more slashes an impossible name.
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    with pytest.raises((OSError, ValueError)) as caught:
        PreTrainedConfig.from_pretrained(given)
    line = str(missing_policy(caught.value))
    assert line.startswith(f"policy.path: {given!r} given, allowed: a pretrained_model folder, or a policy that")
    assert "\n" not in line


def test_a_policy_that_is_found_is_not_called_missing(tmp_path):
    folder = save(policy("regression"), tmp_path / "policy")
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="type") as caught:
        PreTrainedConfig.from_pretrained(folder)
    assert missing_policy(caught.value) is None


@pytest.mark.slow
def test_lerobot_eval_of_a_path_without_a_policy_is_one_line_and_status_2(tmp_path):
    command = Path(sys.executable).parent / "lerobot-eval"
    words = ["--policy.path=out/nope", "--policy.device=cpu", "--env.type=anyorder_pusht", "--eval.n_episodes=1"]
    done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("lerobot-eval: policy.path: 'out/nope' given, allowed: ")
    assert "Traceback" not in done.stderr


def test_no_device_is_no_warning(caplog):
    with caplog.at_level("WARNING"):
        config = AnyOrderConfig(device=None)
    assert config.device is not None
    assert not caplog.records
