"""A small sample of the trials of ``make torture``; the slow test does some of every verb."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "torture"))

import codes
import mutations

SAMPLE = 20


@pytest.fixture(scope="module")
def torture(tmp_path_factory):
    """The modules, the verbs, and a folder to work in."""
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


@pytest.mark.slow
def test_two_at_once(torture):
    *_, owners, verbs, folder = torture
    assert_good(owners.trials(1, [v for v in verbs if v.name == "record"], folder), 1)


@pytest.mark.slow
def test_full_disks(torture):
    disks, *_, verbs, folder = torture
    assert_good(disks.trials(1, [v for v in verbs if v.name == "report"], folder, seed=1), 10)


@pytest.mark.slow
def test_all_of_it(torture):
    disks, kills, owners, verbs, folder = torture
    assert_good(kills.trials(40, verbs, folder), 40)
    assert_good(owners.trials(len(verbs), verbs, folder), len(verbs))
    assert_good(disks.trials(6 * len(verbs), verbs, folder), 6 * len(verbs))


@pytest.mark.parametrize("seed", [0])
def test_damaged_files_are_refused_in_one_line_or_read_as_they_were(tmp_path, seed):
    told = []
    rows = mutations.run(SAMPLE, seed, tmp_path, jobs=1, show=told.append)
    assert told == []
    assert sum(row[1] for row in rows) == SAMPLE
    assert all(tried == refused + unharmed for _, tried, refused, unharmed, *_ in rows)
    assert sum(row[2] for row in rows) > SAMPLE / 2


def test_every_mutation_changes_something():

    for suffix, good in (
        (".json", b'{"a": [1, {"b": null}], "c": 2.5}'),
        (".bin", b"\0\1\2"),
        (".jsonl", b'{"a": 1}\n'),
    ):
        for seed in range(300):
            how, damaged = mutations.mutated(good, suffix, random.Random(seed))
            assert damaged != good, (suffix, seed, how)


def test_codes_decode_within_range_or_are_refused():
    told = []
    rows = [codes.row(choice, (4, 2), 400, 0, told.append) for choice in ("bins", "dct", "fast")]
    assert told == []
    assert all(tried == 400 == refused + decoded for _, tried, refused, decoded, *_ in rows)
    assert sum(row[2] for row in rows) > 10


def test_a_code_that_gives_what_is_not_finite_is_told(monkeypatch):
    from anyorder.tokenizers.bins import BinsTokenizer

    monkeypatch.setattr(BinsTokenizer, "decode", lambda self, tokens: tokens.new_full((len(tokens), 4, 2), 3).float())
    told = []
    assert codes.row("bins", (4, 2), 100, 0, told.append)[5] > 50
    assert "silent" in told[0]
