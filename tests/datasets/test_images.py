import functools
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anyorder import cli
from anyorder.datasets import ActionChunks
from anyorder.datasets.read import cameras as cameras_module
from anyorder.datasets.read.episodes import EpisodeChoice
from anyorder.datasets.read.images import downscale
from anyorder.errors import ConfigError, DatasetError
from anyorder.training.config import DatasetConfig
from anyorder.training.data import load_chunks
from tests.datasets.datasets_at_random import CAMERAS, lerobot_items, write_random

FILM, PICTURE = CAMERAS


@pytest.fixture(scope="module")
def random_root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")

    @functools.cache
    def make(seed):
        return folder / str(seed), write_random(folder / str(seed), seed)

    return make


@pytest.fixture
def root(random_root):
    return random_root(0)[0]


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_every_batch_equals_lerobots_value_for_value(random_root, data):
    root, lengths = random_root(data.draw(st.integers(0, 2), "dataset"))
    horizon = data.draw(st.integers(1, max(lengths)), "horizon")
    history = data.draw(st.integers(1, 4), "history")
    cache_gb = data.draw(st.sampled_from([None, 0]), "cache_gb")
    options = {"horizon": horizon, "history": history, "images": True}
    chunks = ActionChunks.load(root, allow_short=True, **options)
    chunks.cache(cache_gb)
    borders = [*chunks.starts.tolist(), *(chunks.starts + chunks.lengths - 1).tolist()]
    row = st.sampled_from(borders) | st.integers(0, len(chunks) - 1)
    rows = data.draw(st.lists(row, min_size=1, max_size=6), "rows")
    batch, reference = chunks.batch(rows), lerobot_items(root, rows, horizon, history)
    assert set(batch) == set(reference)
    assert batch.pop("task") == reference.pop("task")
    for key, values in reference.items():
        assert batch[key].dtype == values.dtype, key
        assert torch.equal(batch[key], values), key


@pytest.mark.parametrize("cache_gb", [None, 0])
def test_raw_frames_are_the_same_in_a_quarter_of_the_bytes(root, cache_gb):
    chunks = ActionChunks.load(root, horizon=1, history=2, images=True)
    chunks.cache(cache_gb)
    assert bool(chunks.cameras.cache) == (cache_gb is None)
    rows = torch.arange(len(chunks))
    floats, raw = chunks.batch(rows), chunks.batch(rows, raw=True)
    for key in CAMERAS:
        assert raw[key].dtype == torch.uint8
        assert raw[key].shape == floats[key].shape == (len(chunks), 2, 3, 32, 48)
        assert torch.equal(raw[key].float() / 255, floats[key])
        assert chunks.shapes[key] == (3, 32, 48)


def test_only_the_cameras_asked_for(root):
    chunks = ActionChunks.load(root, horizon=1, images=[PICTURE])
    assert PICTURE in chunks.batch([0])
    assert FILM not in chunks.batch([0])
    assert FILM not in chunks.shapes
    assert PICTURE not in chunks.without_images().batch([0])
    with pytest.raises(DatasetError, match=r"dataset.observations: 'observation.images.fim' given, .* did you mean"):
        ActionChunks.load(root, horizon=1, images=["observation.images.fim"])


def test_subsets_and_splits_share_one_cache_of_the_rows_held(root):
    whole = ActionChunks.load(root, horizon=1, images=True)
    part = ActionChunks.load(root, horizon=1, images=True, choice=EpisodeChoice([0, 2]))
    part.cache()
    assert len(part.cameras.cache[FILM]) == part.frames < whole.frames
    train, validation = part.split(0.5)
    assert train.cameras is validation.cameras is part.cameras
    for chunks in (part, train, validation):
        batch = chunks.batch(torch.arange(chunks.frames))
        expected = whole.batch(batch["index"])
        for key in CAMERAS:
            assert torch.equal(batch[key], expected[key])


def test_scaled_down_frames_are_the_same_with_and_without_a_cache(root):
    options = {"horizon": 1, "history": 2, "images": True}
    small = ActionChunks.load(root, image_size=[16, 20], **options)
    live = ActionChunks.load(root, image_size=[16, 20], **options)
    assert small.cache()
    whole = ActionChunks.load(root, **options).batch([0, 1, 2], raw=True)
    for key in CAMERAS:
        assert small.shapes[key] == (3, 16, 20)
        frames = small.batch([0, 1, 2], raw=True)[key]
        assert torch.equal(frames, live.batch([0, 1, 2], raw=True)[key])
        assert torch.equal(frames.flatten(0, 1), downscale(whole[key].flatten(0, 1), (16, 20)))
        # The mean of an area survives scaling; a wrong crop or a missing antialias would change it.
        assert frames.float().mean() == pytest.approx(whole[key].float().mean(), abs=2)


def test_frames_that_do_not_fit_are_not_kept(root, monkeypatch):
    needed = ActionChunks.load(root, horizon=1, images=True).cameras.bytes
    monkeypatch.setattr(cameras_module, "free_memory", lambda: 2 * needed)
    assert ActionChunks.load(root, horizon=1, images=True).cache()
    monkeypatch.setattr(cameras_module, "free_memory", lambda: 2 * needed - 1)
    chunks = ActionChunks.load(root, horizon=1, images=True)
    assert not chunks.cache()
    assert not chunks.cameras.cache


def test_decoding_reports_its_progress(root):
    seen = []
    chunks = ActionChunks.load(root, horizon=1, images=True)
    chunks.cache(progress=lambda *n: seen.append(n))
    assert seen[-1] == (2 * len(chunks), 2 * len(chunks))
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": [0, 20]}, r"image_size: \[0, 20\] given"),
        ({"image_size": [20]}, r"image_size: \[20\] given"),
        ({"history": 0}, "n_obs_steps: 0 given"),
        ({"image_size": [33, 48]}, r"image_size: \[33, 48\] given, allowed: at most \[32, 48\]"),
    ],
)
def test_settings_that_make_no_sense(root, options, message):
    with pytest.raises((ConfigError, DatasetError), match=message):
        ActionChunks.load(root, horizon=1, images=True, **options)


def test_a_cache_that_makes_no_sense(root):
    with pytest.raises(ConfigError, match="cache_gb: -1 given"):
        ActionChunks.load(root, horizon=1, images=True).cache(-1)


@pytest.mark.parametrize("cache_gb", [None, 0])
def test_a_damaged_video_is_named_before_work_begins(root, tmp_path, cache_gb):
    root = shutil.copytree(root, tmp_path / "copy")
    (path,) = (root / "videos").rglob("*.mp4")
    whole = path.read_bytes()

    def message():
        with pytest.raises(DatasetError) as caught:
            ActionChunks.load(root, horizon=1, images=True).cache(cache_gb)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for part in (whole[: len(whole) // 2], b"", b"nonsense"):
        path.write_bytes(part)
        assert message().startswith(f"video file: {str(path)!r} given, allowed: a whole video")
        assert message().count(path.name) == 1
        assert re.search(r"with a frame at \d+\.\d\d s \(\w", message())
    path.unlink()
    assert message().startswith(f"video file: {str(path)!r} given, allowed: a file")
    ActionChunks.load(root, horizon=1)


def test_a_policys_observations_say_which_cameras_are_read(root):
    settings = DatasetConfig(root=str(root), observations=["observation.state", PICTURE], image_size=[16, 16])
    train, validation = load_chunks(settings, 1, history=2)
    for chunks in (train, validation):
        batch = chunks.batch([0])
        assert batch[PICTURE].shape == (1, 2, 3, 16, 16)
        assert batch["observation.state"].shape == (1, 2, 3)
        assert FILM not in batch
    settings.observations = []
    with pytest.raises(ConfigError, match=r"dataset.image_size: \[16, 16\] given, allowed: null"):
        load_chunks(settings, 1)
    settings.image_size = None
    assert PICTURE not in load_chunks(settings, 1)[0].batch([0])
    settings.observations = ["observation.images.pictur"]
    with pytest.raises(ConfigError, match=r"dataset.observations: .* did you mean 'observation.images.picture'"):
        load_chunks(settings, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.cache_gb=-1"], "dataset.cache_gb: -1.0 given, allowed: a number >= 0 and <= 1000000, or null"),
        (["dataset.image_size=[0,5]"], "dataset.image_size: [0, 5] given"),
        (["dataset.image_size=[64,64]", f"dataset.observations=[{FILM}]"], "at most [32, 48], as"),
        (["dataset.image_size=big"], "dataset.image_size: 'big' given, allowed: a list"),
        (["dataset.workers=-1"], "dataset.workers: -1 given, allowed: an integer >= 0"),
        (["dataset.observations=[observation.images.fil]"], f"did you mean '{FILM}'?"),
        (["dataset.mix=[{root: x}]"], "null beside dataset.mix"),
        (["dataset.root=null", "dataset.mix=[{rot: x}]"], "did you mean 'root'?"),
        (["dataset.root=null", "dataset.mix=[{root: nowhere}]"], "dataset.mix root: 'nowhere' given"),
        (["dataset.root=null"], "(or dataset.repo_id, or dataset.mix)"),
    ],
)
def test_the_command_line_says_what_is_wrong_before_work_begins(root, tmp_path, capsys, words, message):
    run = tmp_path / "run"
    if "dataset.root=null" not in words:
        words = [f"dataset.root={root}", *words]
    assert cli.main(["train", f"output_dir={run}", "dataset.allow_short=true", *words]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not run.exists()


def test_a_damaged_picture_is_named(root, tmp_path):
    copy = shutil.copytree(root, tmp_path / "copy")
    (path,) = (copy / "data").rglob("*.parquet")
    table = pq.read_table(path)
    pictures = table[PICTURE].to_pylist()
    pictures[2]["bytes"] = pictures[2]["bytes"][:200]
    column = pa.array(pictures, table.schema.field(PICTURE).type)
    pq.write_table(table.set_column(table.schema.get_field_index(PICTURE), PICTURE, column), path)
    with pytest.raises(DatasetError, match=rf"{PICTURE}, frames 0 \.\.\. \d+: .* allowed: images that can be"):
        ActionChunks.load(copy, horizon=1, images=True).cache()
