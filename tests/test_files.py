"""Files appear whole, tell of damage, stay below their folder and have one owner."""

import subprocess
import sys
from pathlib import Path

import pytest

from anyorder import sums
from anyorder.datasets.write import commit
from anyorder.errors import CheckpointError, ConfigError, DatasetError, UserError
from anyorder.files import read_json, whole, writable, write_json, write_whole
from anyorder.folders import inside, owned, staged_folder, whole_folder
from anyorder.sums import check_sums, write_sums


def write_half(path):
    with whole(path) as staged:
        staged.write_text("half")
        raise KeyboardInterrupt


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"
    write_whole(path, "old, ä\n")
    with pytest.raises(KeyboardInterrupt):
        write_half(path)
    assert path.read_text(encoding="utf-8") == "old, ä\n"
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_meets_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "file.txt"
    write_whole(path, "old")
    with whole(path) as staged:
        staged.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_file_can_be_made_below_folders_alone(tmp_path):
    (tmp_path / "file").write_text("here")
    assert writable(tmp_path / "new")
    assert writable(tmp_path / "new" / "and" / "newer")
    assert not writable(tmp_path / "file" / "new")
    assert not writable(tmp_path / "file" / "new" / "newer")


def test_what_a_killed_process_left_half_written_goes_with_the_next_write(tmp_path):
    left = tmp_path / ".file.txt.99999999"
    left.write_text("half")
    (tmp_path / ".file.txt.lock").write_text("")
    write_whole(tmp_path / "file.txt", "new")
    assert not left.exists()
    assert (tmp_path / ".file.txt.lock").exists()


def test_every_flipped_bit_of_json_is_refused_or_changes_nothing(tmp_path):
    path, value = tmp_path / "state.json", {"step": 300, "loss": 0.25, "names": ["a", None], "ok": True}
    write_json(path, value)
    good = path.read_bytes()
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_json(path, CheckpointError)
        except CheckpointError:
            continue
        assert {key: found.get(key) for key in value} == value, bit


@pytest.mark.parametrize("text", ["", "[1]", '{"a": NaN}', '{"a": 1e999, "sha256": "x"}', "{" * 100_000, "\xff"])
def test_what_is_no_json_object_is_one_line(tmp_path, text):
    (tmp_path / "x.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"x\.json") as error:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(error.value)


def test_sums_name_the_file_that_changed(tmp_path):
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    write_sums(tmp_path)
    check_sums(tmp_path, ["a", "b"])
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    (tmp_path / "b").write_text("3")
    check_sums(tmp_path, ["a"])
    with pytest.raises(DatasetError, match="b: changed since it was written"):
        check_sums(tmp_path, ["a", "b"], DatasetError)


def test_a_missing_file_is_not_taken_for_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nothing.json")


def record_while_hashing(root, monkeypatch, new):
    """Let an episode be recorded each time a file of ``root`` is hashed, as long as there is a new one."""
    pending, real = commit.pending_folder(root), sums.file_digest

    def hashed(path):
        if path == root / "data" / "a" and new:
            text, *later = new
            new.clear()
            for name in ("data/a", "meta/info.json"):
                write_whole(pending / name, text)
            commit.recover(root)
            new.extend(later)
        return real(path)

    monkeypatch.setattr(sums, "file_digest", hashed)


def test_a_dataset_is_read_while_episodes_are_recorded(tmp_path, monkeypatch):
    root = tmp_path / "root"
    for name in ("data/a", "meta/info.json"):
        write_whole(root / name, "one")
    write_sums(root, commit.files_below(root))
    record_while_hashing(root, monkeypatch, ["two", "three"])
    commit.check_recorded(root)
    assert (root / "data" / "a").read_text() == "three"
    (root / "data" / "a").write_text("four")
    with pytest.raises(DatasetError, match="data/a: changed since it was written"):
        commit.check_recorded(root)


def test_a_list_that_changes_for_ever_ends_the_reading(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("1")
    reads = iter(range(1000))
    monkeypatch.setattr(sums, "read_sums", lambda *_: {"a": [str(next(reads))]})
    with pytest.raises(UserError, match="a: changed"):
        check_sums(tmp_path, ["a"])


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a\\..\\x", "C:\\x", "", "a\0b", "//x/y"])
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="allowed: a path below"):
        inside(tmp_path, name, "video_path", DatasetError)


OWNER = """
import pathlib, sys, time
from anyorder.folders import owned
with owned(pathlib.Path(sys.argv[1]), "root"):
    print(1, flush=True)
    time.sleep(60)
"""


def test_a_folder_has_one_owner_until_its_process_is_gone(tmp_path):
    folder = tmp_path / "new" / "run"
    with subprocess.Popen([sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"1\n"
        with pytest.raises(UserError, match=r"root: .*run' given, allowed: one that no other"), owned(folder, "root"):
            pass
        with owned(folder / "inner", "root"):
            pass
        owner.kill()
    with owned(folder, "root"):
        assert (tmp_path / "new" / ".run.lock").exists()
    assert list(tmp_path.glob("new/.*")) == []


def test_two_names_of_a_folder_are_one(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    refused = pytest.raises(UserError, match="no other process")
    with owned(tmp_path / "run", "root"), refused, owned(tmp_path / "link", "root"):
        pass
    with owned(tmp_path / "run", "root", new=None):
        pass
    with pytest.raises(UserError, match="a new file"), owned(tmp_path / "run", "output", new="a new file"):
        pass


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder where nobody makes files")
def test_a_place_where_no_file_can_be_made_says_so():
    with pytest.raises(OSError, match=r"No such file|Permission"), owned(Path("/proc/run"), "output_dir"):
        pass


def test_the_root_of_all_folders_has_no_owner():
    refused = pytest.raises(ConfigError, match=r"^output_dir: '/' given, allowed: a place below /$")
    with refused, owned(Path("/"), "output_dir"):
        pass


def test_a_refusal_leaves_no_folder_behind(tmp_path):
    with pytest.raises(KeyError), owned(tmp_path / "a" / "b" / "run", "root"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "new" / "fit"
    staged_folder(folder).mkdir(parents=True)
    (staged_folder(folder) / "left").touch()

    def fail():
        with whole_folder(folder, "out") as staged:
            assert list(staged.iterdir()) == []
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(folder.parent.iterdir()) == []
    with whole_folder(folder, "out") as staged:
        (staged / "x").write_text("1")
        assert not folder.exists()
    assert [path.name for path in folder.parent.iterdir()] == ["fit"]
    with pytest.raises(UserError, match="a new folder"), whole_folder(folder, "out"):
        pass
    assert (folder / "x").read_text() == "1"
