"""One line and exit status 2 for bad input in LeRobot's commands."""

import subprocess
import sys

import pytest

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
