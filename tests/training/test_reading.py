"""Odd datasets through `anyorder train`, `tokenize` and studies: what is learnt from, and what is printed."""

import json

import numpy as np
import pytest
import torch

from anyorder import cli
from anyorder.errors import ConfigError, DatasetError
from anyorder.plugin.excepthook import unfit_for_lerobot
from anyorder.reports.runs import read_run
from anyorder.settings import convert
from anyorder.studies.config import StudyConfig, StudyDataset
from anyorder.studies.data import StudyData
from anyorder.training.checkpoint import load_policy
from anyorder.training.metrics import read_metrics
from tests.datasets import handmade
from tests.datasets.handmade import CAMERA, JOINTS, feature, smooth, write

TINY = [
    "steps=2",
    "batch_size=4",
    "eval_samples=1",
    "network={width: 16, depth: 1, heads: 2}",
    "encoder={tokens: 2, hidden: 16}",
    "device=cpu",
    "progress=false",
]


def run(verb, *words):
    return cli.main([verb, *map(str, words)])


@pytest.mark.parametrize("family", ["autoregressive", "regression"])
def test_actions_of_booleans_and_tables_are_learnt(tmp_path, family):
    columns = {
        "action": lambda e, n: smooth(n, 6, e).reshape(n, 2, 3) > 0,
        "observation.state": lambda e, n: smooth(n, 6, e).reshape(n, 2, 3),
    }
    features = {
        "action": feature("bool", [2, 3], [["left", "right"], JOINTS]),
        "observation.state": feature("float32", [2, 3], [["left", "right"], JOINTS]),
    }
    root = write(tmp_path / "d", columns=columns, features=features)
    out = tmp_path / "o"
    assert run("train", f"dataset.root={root}", f"output_dir={out}", f"factorization={family}", *TINY) == 0
    policy = load_policy(out)
    assert policy.action_size == 6
    # LeRobot's loader leaves booleans and tables as they are.
    table = torch.from_numpy(smooth(6, 6, 0).reshape(1, 6, 2, 3) > 0)
    assert torch.equal(
        policy.codec.normalize({"action": table}), policy.codec.normalize({"action": table.flatten(2).float()})
    )
    state = torch.from_numpy(smooth(4, 6, 0))
    seen = policy.context({"observation.state": state.view(4, 2, 3)})
    assert torch.equal(seen, policy.context({"observation.state": state}))
    assert torch.isfinite(policy.predict_action_chunk({"observation.state": state})).all()


def test_a_run_without_validation(tmp_path, capsys):
    root, out = write(tmp_path / "d"), tmp_path / "o"
    words = ["dataset.episodes=[2]", "dataset.validation_fraction=0", "eval_freq=1"]
    assert run("train", f"dataset.root={root}", f"output_dir={out}", *words, *TINY) == 0
    assert "no episodes were held out" in " ".join(capsys.readouterr().out.split())
    lines = read_metrics(out)
    assert lines
    assert not any(key.startswith(("val_", "chunk_error")) for line in lines for key in line)
    data = json.loads((out / "data.json").read_text())
    assert (data["train_episodes"], data["train_frames"], data["validation_episodes"]) == (1, 12, 0)
    summary = read_run(out)
    assert (summary.final, summary.best, summary.validations) == (None, None, ())
    assert run("report", f"runs=[{out}]", f"output={tmp_path / 'page.html'}") == 0
    assert run("train", f"dataset.root={root}", f"output_dir={out}", *words, *TINY, "resume=true") == 0


@pytest.mark.parametrize("verb", ["train", "tokenize"])
def test_what_is_odd_about_the_data_is_one_printed_line(tmp_path, capsys, verb):
    def values(episode, length):
        found = smooth(length, 3, episode + 50)
        if episode == 1:
            found[9, 2] = 32767
        return found

    root = write(tmp_path / "d", [40] * 4, {"action": values})
    words = [f"output_dir={tmp_path / 'o'}", *TINY] if verb == "train" else []
    assert run(verb, f"dataset.root={root}", *words) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert f"{root}: action grip is 32767 in episode 1, frame 9" in line


def test_names_and_episodes_on_the_command_line(tmp_path, capsys):
    columns = {"actions": lambda e, n: smooth(n, 3, e), "state": lambda e, n: smooth(n, 2, e)}
    features = {"actions": feature("float32", [3]), "state": feature("float32", [2])}
    root = write(tmp_path / "d", columns=columns, features=features)
    handmade.edit_info(root, lambda info: [info["features"].pop(k) for k in ("action", "observation.state")])
    rename = "dataset.rename={actions: action, state: observation.state}"
    out = tmp_path / "o"
    words = [f"dataset.root={root}", rename, "dataset.exclude_episodes=[0]", f"output_dir={out}", *TINY]
    assert run("train", *words) == 0
    assert load_policy(out).required_features == {"observation.state": (2,)}
    assert json.loads((out / "data.json").read_text())["train_episodes"] == 2
    assert run("train", *words, "resume=true") == 0
    assert run("tokenize", f"dataset.root={root}", "dataset.rename={actions: action}") == 0
    capsys.readouterr()
    for word, message in (
        ("dataset.rename={action: x}", "dataset.rename: 'action' given, allowed: "),
        ("dataset.rename=x", "dataset.rename: 'x' given, allowed: settings by name"),
        ("dataset.episodes=many", "dataset.episodes: 'many' given, allowed: an integer, or a list, as [a,b]"),
        ("dataset.episodes=[1.5]", "dataset.episodes[0]: 1.5 given, allowed: an integer"),
        ("dataset.exclude_episodes=3", "dataset.exclude_episodes: 3 given, allowed: a list"),
        ("dataset.tolerance_s=0", "dataset.tolerance_s: 0.0 given, allowed: a number > 0"),
        ("dataset.ignore_names=true", "dataset.ignore_names: True given, allowed: false, but with dataset.mix"),
    ):
        assert run("train", f"dataset.root={root}", f"output_dir={tmp_path / 'no'}", word, *TINY) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1


def test_a_number_or_a_list_of_them():
    hint = int | list[int] | None
    assert [convert(hint, value, "n") for value in (3, [3, 5], [], None)] == [3, [3, 5], [], None]
    for wrong in (True, 1.5, "3", [True], {}):
        with pytest.raises(ConfigError, match="an integer"):
            convert(hint, wrong, "n")


@pytest.mark.parametrize("relative", ["true", "false"])
def test_tokenize_reads_the_actions_alone(tmp_path, relative):
    columns = {"observation.odd": lambda e, n: np.full((n, 2), np.nan, np.float32)}
    root = write(tmp_path / "d", columns=columns, features={"observation.odd": feature("float32", [2])})
    page = tmp_path / "page.md"
    assert run("tokenize", f"dataset.root={root}", f"relative_actions={relative}", f"output={page}") == 0
    assert all(f"| {name} |" in page.read_text() for name in JOINTS)
    nameless = write(tmp_path / "nameless", names=None)
    assert run("tokenize", f"dataset.root={nameless}", f"relative_actions={relative}") == 2 * (relative == "true")


def test_a_study_reads_only_what_it_uses(tmp_path):
    columns = {"observation.odd": lambda e, n: np.full((n, 2), np.nan, np.float32)}
    features = {"observation.odd": feature("float32", [2])}
    root = write(tmp_path / "d", [12] * 8, columns, features)
    chosen = StudyDataset(str(root), validation_fraction=0.34, test_fraction=0.25, observations=["observation.state"])
    assert StudyData(StudyConfig(chosen)).train.frames == 36
    chosen.exclude_episodes = [0, 7]
    data = StudyData(StudyConfig(chosen))
    held = [number for part in (data.train, data.validation, data.test) for number in part.episode_ids]
    assert sorted(held) == [1, 2, 3, 4, 5, 6]
    chosen.observations = []
    with pytest.raises(DatasetError, match=r"observation\.odd in episode 1, frame 0: nan"):
        StudyData(StudyConfig(chosen))


def test_what_lerobot_cannot_do_with_a_dataset_is_one_line(tmp_path):
    features = {CAMERA: handmade.camera("image")}
    root = write(tmp_path / "d", features=features)
    line = str(unfit_for_lerobot(root, KeyError(CAMERA)))
    assert line.startswith(f"statistics in {root}/meta/stats.json: None given, allowed: those of {CAMERA}")
    assert unfit_for_lerobot(root, KeyError("action")) is None
    gap = write(tmp_path / "gap", numbers=[0, 1, 4, 5])
    assert f"gaps in the episode numbers of {gap}: '2, 3' given" in str(unfit_for_lerobot(gap, OSError()))
