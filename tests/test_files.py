"""Files appear whole."""

import pytest

from anyorder.files import whole, writable, write_whole


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
