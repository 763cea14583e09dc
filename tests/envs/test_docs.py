"""docs/adding-a-task.md, followed word by word: two files go into a copy of the package, and nothing else is done."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import anyorder

DOCS = Path(__file__).parents[2] / "docs"

PLAY = """
from anyorder import cli
from anyorder.datasets.write.recording import roll_out
from anyorder.envs import EnvConfig
from anyorder.testing.environments import check_environment

assert "so101_lift_high" in EnvConfig.choices["so101"].presets()
for config in (EnvConfig.named("so101", task="lift_high"), EnvConfig.choices["line"](cameras=["top"])):
    check_environment(config)
    env, expert = config.build(), config.expert()
    print([roll_out(env, expert, seed)[1] for seed in range(3)])
print(cli.main(["record", "env=line", "episodes=2", "root=data/line"]))
"""


def test_a_new_task_and_a_new_environment_are_one_file_each(tmp_path):
    text = (DOCS / "adding-a-task.md").read_text()
    task, env, check = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ignored = shutil.ignore_patterns("__pycache__")
    package = shutil.copytree(Path(anyorder.__file__).parent, tmp_path / "anyorder", ignore=ignored)
    (package / "envs" / "so101" / "tasks" / "lift_high.py").write_text(task)
    (package / "envs" / "line.py").write_text(env)
    (tmp_path / "play.py").write_text(PLAY + check)
    process = subprocess.run(
        [sys.executable, "play.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert lines[:2] == ["[True, True, True]"] * 2
    assert "the_expert_acts" in lines[-1]
    assert (tmp_path / "data" / "line" / "meta" / "info.json").is_file()
