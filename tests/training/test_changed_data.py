"""A run goes on with the data it began with, or not at all."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anyorder.datasets.read.fingerprint import check_unchanged, fingerprint
from anyorder.errors import DatasetError
from anyorder.training.config import DatasetConfig, MixEntry, TrainConfig
from anyorder.training.data import load_chunks
from anyorder.training.loop import train
from anyorder.training.metrics import read_metrics
from tests.training.test_training import config

CAMERA = "observation.images.top"
NO_DIGESTS = shutil.ignore_patterns("SHA256SUMS")
"""The data change on purpose."""


def edit_info(root, change):
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def keep(root, episodes):
    """Let a dataset seem to have fewer episodes: rows beyond those counts are not read."""
    table = pq.read_table(next((root / "data").rglob("*.parquet")))
    frames = int((table["episode_index"].to_numpy() < episodes).sum())
    edit_info(root, lambda info: info.update(total_episodes=episodes, total_frames=frames))


def edit_column(root, key, change):
    file = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(file)
    values = change(np.array(table[key].to_pylist()))
    column = pa.array(values.tolist(), table.schema.field(key).type)
    pq.write_table(table.set_column(table.schema.get_field_index(key), key, column), file)


def one_frame_other(values):
    values = values.copy()
    values[3] = values[3] + 1e-3
    return values


def rename_task(root):
    path = root / "meta" / "tasks.parquet"
    tasks = pd.read_parquet(path)
    tasks.index = pd.Index([f"{name} Slowly." for name in tasks.index], name=tasks.index.name)
    tasks.to_parquet(path)


CHANGES = {
    "fewer episodes": (lambda root: keep(root, 4), "episodes"),
    "a state": (lambda root: edit_column(root, "observation.state", one_frame_other), "observation.state"),
    "an action": (lambda root: edit_column(root, "action", one_frame_other), "action"),
    "order of episodes": (lambda root: edit_column(root, "episode_index", lambda v: v.max() - v), "values of"),
    "names": (
        lambda root: edit_info(root, lambda info: info["features"]["action"]["names"].reverse()),
        "description of action",
    ),
    "rate": (lambda root: edit_info(root, lambda info: info.update(fps=info["fps"] + 1)), "fps"),
    "task": (rename_task, "tasks"),
}


@pytest.fixture(scope="module")
def begun(lift_root, tmp_path_factory):
    """A finished run and the dataset it learnt from."""
    folder = tmp_path_factory.mktemp("begun")
    root = shutil.copytree(lift_root, folder / "data", ignore=NO_DIGESTS)
    train(config(root, folder / "run", steps=2, save_freq=1))
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_changed_data(change, begun):
    edit, named = CHANGES[change]
    root, run = begun / "data", begun / "run"
    kept = shutil.copytree(root, begun / "kept", ignore=NO_DIGESTS)
    files = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    edit(root)
    try:
        with pytest.raises(DatasetError, match=f"{named}.* as when the run in .* began"):
            train(config(root, run, steps=2, save_freq=1, resume=True))
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == files
    finally:
        shutil.rmtree(root)
        kept.rename(root)


def test_a_grown_dataset_is_refused_and_its_first_run_stays_as_it_was(begun, tmp_path):
    root = shutil.copytree(begun / "data", tmp_path / "data", ignore=NO_DIGESTS)
    keep(root, 5)
    settings = {"steps": 4, "save_freq": 1}
    train(config(root, tmp_path / "run", **settings))
    scores = read_metrics(tmp_path / "run")
    keep(root, 6)
    with pytest.raises(DatasetError, match=r"episodes in the dataset: \[5, 1\] given, allowed: \[4, 1\]"):
        train(config(root, tmp_path / "run", **settings, resume=True))
    assert read_metrics(tmp_path / "run") == scores


def test_an_older_run_is_checked_by_the_counts_it_holds(begun, tmp_path):
    run = shutil.copytree(begun / "run", tmp_path / "run", symlinks=True)
    held = json.loads((run / "data.json").read_text())
    older = {key: value for key, value in held.items() if key not in ("dataset", "sha256")}
    (run / "data.json").write_text(json.dumps(older))
    settings = TrainConfig(**{**vars(config(begun / "data", run, steps=2, save_freq=1, resume=True))})
    train(settings)  # nothing has changed
    (run / "data.json").write_text(json.dumps({**older, "train_episodes": 3}))
    with pytest.raises(DatasetError, match="episodes in the dataset"):
        train(settings)


def test_a_dataset_moved_elsewhere_and_written_anew_is_the_same(lift_root, tmp_path):
    copy = shutil.copytree(lift_root, tmp_path / "copy", ignore=NO_DIGESTS)
    file = next((copy / "data").rglob("*.parquet"))
    pq.write_table(pq.read_table(file), file, compression="gzip")
    prints = [fingerprint(*load_chunks(DatasetConfig(root=str(root)), 6)) for root in (lift_root, copy)]
    check_unchanged(*prints, "run")


def test_each_dataset_of_a_mixture_counts(lift_root, tmp_path):
    roots = [shutil.copytree(lift_root, tmp_path / name, ignore=NO_DIGESTS) for name in "ab"]
    mix = DatasetConfig(mix=[MixEntry(str(root)) for root in roots])
    before = fingerprint(*load_chunks(mix, 6))
    edit_column(roots[1], "observation.state", one_frame_other)
    with pytest.raises(DatasetError, match=r"observation\.state"):
        check_unchanged(before, fingerprint(*load_chunks(mix, 6)), "run")


def test_pictures_count_by_the_size_of_their_files(pictures_root, tmp_path):
    from PIL import Image

    root = shutil.copytree(pictures_root, tmp_path / "pictures", ignore=NO_DIGESTS)
    wanted = DatasetConfig(root=str(root), observations=["observation.state", CAMERA])
    before = fingerprint(*load_chunks(wanted, 6))
    file = next((root / "data").rglob("*.parquet"))
    table = pq.read_table(file)
    pictures = table[CAMERA].to_pylist()
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(root / "black.png")
    pictures[5] = {**pictures[5], "bytes": (root / "black.png").read_bytes()}
    column = pa.array(pictures, table.schema.field(CAMERA).type)
    pq.write_table(table.set_column(table.schema.get_field_index(CAMERA), CAMERA, column), file)
    with pytest.raises(DatasetError, match=f"files of {CAMERA}"):
        check_unchanged(before, fingerprint(*load_chunks(wanted, 6)), "run")
