"""A few of the trials of ``make torture``; the slow test does some of every verb."""

import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).parents[2] / "benchmarks" / "torture"


@pytest.fixture(scope="module")
def torture(tmp_path_factory):
    """The modules, the verbs, and a folder to work in."""
    sys.path.insert(0, str(TORTURE))
    import disks
    import kills
    import owners
    import verbs

    verbs.warm_up()
    folder = tmp_path_factory.mktemp("torture")
    return disks, kills, owners, verbs.make_verbs(folder / "inputs"), folder


def assert_good(found, tried):
    assert sum(tally.tried for tally in found) >= tried
    assert [note for tally in found for note in tally.notes] == []
    assert not any(tally.tracebacks or tally.silent or tally.hangs for tally in found)


def test_two_at_once(torture):
    *_, owners, verbs, folder = torture
    assert_good(owners.trials(1, [v for v in verbs if v.name in ("record", "train")], folder), 2)


def test_full_disks(torture):
    disks, *_, verbs, folder = torture
    assert_good(disks.trials(1, [v for v in verbs if v.name == "rollout"], folder, seed=1), 10)


@pytest.mark.slow
def test_all_of_it(torture):
    disks, kills, owners, verbs, folder = torture
    assert_good(kills.trials(40, verbs, folder), 40)
    assert_good(owners.trials(len(verbs), verbs, folder), len(verbs))
    assert_good(disks.trials(6 * len(verbs), verbs, folder), 6 * len(verbs))
