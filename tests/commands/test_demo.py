"""A demo that was interrupted goes on with the numbers it was begun with, or says which those are."""

import shutil

import pytest

from anyorder.sums import SUMS
from tests.commands.test_cli import fails


@pytest.fixture
def begun(lift_root, tmp_path):
    """A demo that was cut off after six demonstrations."""
    shutil.copytree(lift_root, tmp_path / "demo" / "dataset")
    return tmp_path / "demo"


def test_fewer_demonstrations_than_there_are(begun, capsys):
    line = fails(capsys, "demo", f"output_dir={begun}", "episodes=4")
    assert f"episodes: 4 given, allowed: 6 or more, as {begun / 'dataset'} has 6 already" in line
    assert [path.name for path in begun.iterdir()] == ["dataset"]


@pytest.mark.parametrize("count", [4, 7])
def test_another_number_of_demonstrations_than_a_policy_learns_from(count, begun, capsys):
    (begun / "mip").mkdir()
    (begun / "mip" / "train_config.json").write_text("{}")
    sums = (begun / "dataset" / SUMS).read_text()
    line = fails(capsys, "demo", f"output_dir={begun}", f"episodes={count}")
    assert line == f"anyorder demo: episodes: {count} given, allowed: 6, as in the demo to resume\n"
    assert (begun / "dataset" / SUMS).read_text() == sums


def test_another_number_of_rollouts_than_a_policy_was_rolled_out_with(begun, capsys):
    rolled = begun / "mip" / "rollout"
    rolled.mkdir(parents=True)
    (rolled / "summary.json").write_text("{}")
    (rolled / "episodes.jsonl").write_text("{}\n" * 3)
    line = fails(capsys, "demo", f"output_dir={begun}", "episodes=6", "rollouts=5")
    assert line == "anyorder demo: rollouts: 5 given, allowed: 3, as in the demo to resume\n"
