"""What the commands, their help and the documents tell to type is taken."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from anyorder import cli, composition
from anyorder.commands import study
from anyorder.commands.train import next_step
from anyorder.errors import installed
from anyorder.training.data import load_chunks
from anyorder.training.loop import train
from tests.training.test_training import config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(text):
    """Return the commands of this package in a text's indented or fenced lines, each as its words."""
    text = text.replace("\\\n", " ")
    lines = [re.sub(r"^[#$ ]*", "", line) for line in text.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"anyorder [a-z]+ ", line)]
    return [words for words in found if "key=value" not in words and not any("..." in word for word in words)]


def check(words):
    """Let the command line read a command as far as its settings."""
    verb, *overrides = words[1:]
    if "--help" in overrides:
        return
    if verb in cli.FIRST_WORD and "=" not in overrides[0]:
        overrides[0] = f"{cli.FIRST_WORD[verb]}={overrides[0]}"
    files = [word for word in overrides if word.startswith("study=") and word.endswith(".yaml")]
    cli.settings(verb, [cli.strip_dashes(word) for word in overrides if word not in files])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_of_the_documents_are_taken(path):
    fenced = "\n".join(path.read_text().split("```")[1::2])
    for words in commands(fenced):
        check(words)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_commands_of_the_help_are_taken(verb):
    found = commands("\n".join(composition.examples(verb)))
    assert found
    for words in found:
        check(words)


def printed(function, *arguments):
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    function(*arguments, console)
    return console.export_text()


def test_after_training_a_rollout_is_offered_where_it_runs(lift_root, pictures_root, tmp_path, capsys):
    run = tmp_path / "a run"
    train(config(lift_root, run, steps=1))
    (hint,) = commands(next_step(run).removeprefix("next: "))
    assert cli.main([*hint[1:], "episodes=1", "videos=0"]) == 0
    train(config(pictures_root, tmp_path / "robot", steps=1, batch_size=4))
    line = next_step(tmp_path / "robot")
    assert "anyorder rollout" not in line
    path = line.split("--policy.path=")[1].split()[0]
    assert (Path(path) / "config.json").is_file()


def test_python_of_the_readme_runs(lift_root, tmp_path, monkeypatch):
    settings = config(lift_root, tmp_path / "outputs" / "mip", "mip", steps=1)
    train(settings)
    monkeypatch.chdir(tmp_path)
    names = {"batch": load_chunks(settings.dataset, settings.chunk_size)[1].batch([0, 1])}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        exec(block, names)
    assert names["code"].shape == (8, 3)
    assert names["action"].shape == names["batch"]["action"][:, 0].shape


def test_hints_of_a_study_are_taken(monkeypatch, tmp_path):
    out = tmp_path / "a study"
    member = SimpleNamespace(family="ar", flops=1.0, id="x", estimated_s=1.0)
    done = SimpleNamespace(member=member, state="done", left=0.0, took_s=1.0, spent_s=1.0)
    monkeypatch.setattr("anyorder.studies.collect.read_study", lambda _: SimpleNamespace(members=[member]))
    monkeypatch.setattr("anyorder.studies.collect.standings", lambda *_: [done])
    monkeypatch.setattr("anyorder.studies.collect.table", lambda _: [{}])
    monkeypatch.setattr("anyorder.studies.collect.write_table", lambda *_: None)
    settings = study.Execution(out=str(out))
    for action, expected in ((study.status, "study"), (study.collect, "fit")):
        hint = printed(action, settings).split("next: ")[1]
        (words,) = commands(hint)
        assert words[1] == expected
        assert any(str(out) in word for word in words)
        check(words)


def test_what_is_missing_is_installed_from_the_source():
    """No index has a package of this name, so no message and no document may tell to install it from one."""
    extras = re.findall(r"installed\([^)]*\"(\w+)\"\)", (ROOT / "src/anyorder/networks/language.py").read_text())
    assert extras == ["text"]
    assert "pip install '.[text]'" in installed("a text encoder", "text")
    for path in [*(ROOT / "src").rglob("*.py"), *DOCUMENTS]:
        assert not re.search(r"pip install \S*lerobot_policy_anyorder", path.read_text()), path
