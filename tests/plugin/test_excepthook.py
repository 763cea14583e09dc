"""One line and exit status 2 for bad input in LeRobot's commands."""

import subprocess
import sys

import draccus
import pytest
from lerobot.configs import PreTrainedConfig
from lerobot.envs.configs import EnvConfig

import lerobot_policy_anyorder  # noqa: F401  (registers the types)

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
            "option: 'stepps' given",
        ),
        (EnvConfig, {"type": "anyorder_metaworld", "task": "drawer-opn-v3"}, "did you mean"),
    ],
)
def test_a_wrong_setting_names_its_cause(kind, settings, line, monkeypatch, capsys):
    # lerobot-train reads both as optional, and draccus then says only that no type would do.
    monkeypatch.setattr(sys, "argv", ["lerobot-train"])
    with pytest.raises(SystemExit) as left:
        draccus.decode(kind | None, settings)
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("lerobot-train: ") and told.count("\n") == 1 and line in told
