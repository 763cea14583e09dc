import hashlib
import json
import os
import shutil
import time
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anyorder.cli import main
from anyorder.datasets import ActionChunks
from anyorder.datasets.write.convert import RECORDED_TIME, convert
from anyorder.datasets.write.old_dataset import read_lines
from anyorder.datasets.write.old_videos import has_b_frames
from anyorder.errors import DatasetError
from anyorder.files import write_whole

FPS = 10
CAMERA = "observation.images.top"
LENGTHS = (7, 4, 9)


def write_video(path, frames, fps=FPS, codec="libx264", b_frames=0, times=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, fps, options={"bf": str(b_frames), "g": "4", "x264-params": "scenecut=0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode(path):
    with av.open(str(path)) as container:
        return torch.stack(
            [torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in container.decode(video=0)]
        )


@pytest.fixture
def old(tmp_path):
    """A dataset of version 2.1 with measured times, and one camera."""
    root, random = tmp_path / "old", np.random.default_rng(0)
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    numeric = {
        "timestamp": "float32",
        **dict.fromkeys(["frame_index", "episode_index", "index", "task_index"], "int64"),
    }
    features = {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in numeric.items()}
    features |= {k: {"dtype": "float32", "shape": [2], "names": ["a", "b"]} for k in ("observation.state", "action")}
    features[CAMERA] = {"dtype": "video", "shape": [48, 64, 3], "names": ["height", "width", "channels"], "info": None}
    episodes, stats, start = [], [], 0
    for episode, length in enumerate(LENGTHS):
        values = {key: random.normal(size=(length, 2)).astype(np.float32) for key in ("observation.state", "action")}
        columns = {key: pa.array(list(v), pa.list_(pa.float32(), 2)) for key, v in values.items()}
        columns["timestamp"] = pa.array((np.arange(length) / FPS + random.uniform(0, 0.05, length)).astype(np.float32))
        columns["frame_index"] = pa.array(np.arange(length))
        columns["episode_index"] = pa.array(np.full(length, episode))
        columns["index"] = pa.array(np.arange(start, start + length))
        columns["task_index"] = pa.array(np.full(length, episode % 2))
        pq.write_table(pa.table(columns), root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
        pictures = random.integers(0, 256, (length, 48, 64, 3), dtype=np.uint8)
        write_video(root / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4", pictures)
        episodes.append({"episode_index": episode, "tasks": [f"Task {episode % 2}."], "length": length})
        described = {
            key: {"min": v.min(0), "max": v.max(0), "mean": v.mean(0), "std": v.std(0), "count": np.array([length])}
            for key, v in values.items()
        }
        plain = {key: {name: array.tolist() for name, array in d.items()} for key, d in described.items()}
        stats.append({"episode_index": episode, "stats": plain})
        start += length
    tasks = [{"task_index": i, "task": f"Task {i}."} for i in range(2)]
    for name, rows in (("episodes", episodes), ("episodes_stats", stats), ("tasks", tasks)):
        (root / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {
        "codebase_version": "v2.1",
        "robot_type": "arm",
        "total_episodes": 3,
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "total_videos": 3,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta" / "info.json").write_text(json.dumps(info))
    return root


def edit_info(root, **changes):
    path = root / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def fingerprint(root):
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


def old_rows(root, key):
    files = sorted((root / "data").rglob("episode_*.parquet"))
    return np.concatenate([np.array(pq.read_table(file)[key].to_pylist(), dtype=np.float32) for file in files])


def assert_converted(old, new, videos, horizon=2):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    chunks = ActionChunks.load(new, horizon=horizon, images=True)
    for key in ("observation.state", "action"):
        assert np.array_equal(chunks.columns[key].numpy(), old_rows(old, key))
    assert np.array_equal(chunks.columns[RECORDED_TIME].numpy(), old_rows(old, "timestamp"))
    assert chunks.lengths.tolist() == list(LENGTHS)
    assert chunks.tasks == ["Task 0.", "Task 1."]
    frames = torch.cat([decode(file) for file in sorted(videos.rglob("episode_*.mp4"))])
    assert torch.equal(chunks.batch(range(len(chunks)), raw=True)[CAMERA], frames)
    dataset = LeRobotDataset("local/new", root=new, video_backend="pyav")
    for row in (0, LENGTHS[0], len(dataset) - 1):
        assert torch.equal(dataset[row][CAMERA], frames[row] / 255)
        assert torch.equal(dataset[row]["action"], chunks.columns["action"][row])


def test_values_frames_and_tasks_are_the_sources(old, tmp_path, capsys):
    before = fingerprint(old)
    assert main(["convert", f"source={old}", f"root={tmp_path / 'new'}"]) == 0
    assert fingerprint(old) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    assert "3 episodes, 20 frames at 10 Hz" in " ".join(capsys.readouterr().out.split())
    assert_converted(old, tmp_path / "new", old / "videos")


def test_videos_from_elsewhere_without_times_of_their_own(old, tmp_path):
    small = tmp_path / "small"
    random = np.random.default_rng(1)
    for episode, length in enumerate(LENGTHS):
        path = small / f"episode_{episode:06d}.mp4"
        pictures = random.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        write_video(path, pictures, times=[7 * i + i * i for i in range(length)])
    shutil.rmtree(old / "videos")
    new = tmp_path / "new"
    assert main(["convert", f"source={old}", f"root={new}", f"videos.{CAMERA}={small}"]) == 0
    assert ActionChunks.load(new, horizon=1, images=True).shapes[CAMERA] == (3, 32, 32)
    assert_converted(old, new, small)


def test_frames_stored_in_another_order_keep_their_order(old, tmp_path):
    random = np.random.default_rng(2)
    folder = tmp_path / "bframes"
    for episode, length in enumerate(LENGTHS):
        # Slowly changing pictures, for which the encoder does use B-frames.
        base = random.integers(0, 200, (48, 64, 3))
        pictures = np.stack([base + 5 * i for i in range(length)]).clip(0, 255).astype(np.uint8)
        write_video(folder / f"episode_{episode:06d}.mp4", pictures, b_frames=2, times=[37 * i for i in range(length)])
        assert has_b_frames(folder / f"episode_{episode:06d}.mp4")
    conversion = convert(old, tmp_path / "new", {CAMERA: folder})
    assert conversion.restamped == 3
    assert_converted(old, tmp_path / "new", folder)


def test_a_kill_leaves_nothing_half_done(old, tmp_path, monkeypatch):
    before = fingerprint(old)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anyorder.datasets.write.convert.check_new", die)
        with pytest.raises(KeyboardInterrupt):
            convert(old, tmp_path / "new")
    # What a kill -9 leaves is overwritten by the next call.
    (tmp_path / ".new.converting" / "v21" / "meta").mkdir(parents=True)
    assert not (tmp_path / "new").exists()
    convert(old, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "old"]
    assert fingerprint(old) == before


def error(old, new, videos=None):
    before = sorted(os.listdir(new.parent))
    with pytest.raises(DatasetError) as caught:
        convert(old, new, videos)
    assert sorted(os.listdir(new.parent)) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_sources_are_one_line_each(old, tmp_path):
    new = tmp_path / "new"
    video = old / "videos" / "chunk-000" / CAMERA / "episode_000001.mp4"
    whole = video.read_bytes()
    assert error(old, old).startswith(f"root: {str(old)!r} given, allowed: a folder that does not exist yet")
    assert "meta/info.json cannot be read" in error(tmp_path / "nothing", new)
    assert error(old, new, {"observation.images.tip": tmp_path}).endswith(f"did you mean '{CAMERA}'?")
    video.write_bytes(whole[: len(whole) // 2])
    assert error(old, new).startswith(f"video file: {str(video)!r} given, allowed: a whole video")
    write_video(video, np.zeros((1, 48, 64, 3), np.uint8))
    assert error(old, new).startswith(f"frames of {video}: 1 given, allowed: 4, the rows of episode 1, or at most 2")
    write_video(video, np.zeros((4, 32, 64, 3), np.uint8))
    assert error(old, new).startswith(f"videos of {CAMERA}: ")
    video.unlink()
    assert error(old, new).startswith(f"video file: {str(video)!r} given")
    video.write_bytes(whole)
    edit_info(old, codebase_version="v1.6")
    assert error(old, new) == "source version: 'v1.6' given, allowed: v2.0 or v2.1"
    edit_info(old, codebase_version="v3.0")
    assert "needs no conversion" in error(old, new)
    edit_info(old, codebase_version="v2.1", fps=9.5)
    assert error(old, new).startswith("source fps: 9.5 given")
    edit_info(old, fps=FPS)
    parquet = old / "data" / "chunk-000" / "episode_000002.parquet"
    parquet.write_bytes(parquet.read_bytes()[:-9])
    assert error(old, new).startswith(f"dataset file: {str(parquet)!r} given, allowed: a whole parquet file")
    (old / "meta" / "episodes.jsonl").write_text('{"episode_index": 0')
    assert "episodes.jsonl" in error(old, new)


def test_an_episode_listed_twice_is_named_soon(tmp_path):
    rows = [{"episode_index": i, "length": 3} for i in [*range(20_000), 19_999]]
    write_whole(tmp_path / "meta" / "episodes.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    started = time.process_time()
    with pytest.raises(DatasetError, match=r"episode_index in .*: 19999 twice given, allowed: each once"):
        read_lines(tmp_path, "episodes", ("episode_index", "length"))
    assert time.process_time() - started < 2


def read_info(root):
    return json.loads((root / "meta" / "info.json").read_text())


def edit_lines(root, name, change):
    """Change the rows of meta/<name>.jsonl; None leaves one out."""
    path = root / "meta" / f"{name}.jsonl"
    rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def edit_columns(root, episode, **columns):
    file = next((root / "data").rglob(f"episode_{episode:06d}.parquet"))
    table = pq.read_table(file)
    for key, values in columns.items():
        table = table.set_column(table.schema.get_field_index(key), key, pa.array(values))
    pq.write_table(table, file)


def renumber(root, numbers):
    """Give the source's episodes other numbers, as where some were deleted."""
    for episode in reversed(range(len(numbers))):
        for file in [*root.rglob(f"episode_{episode:06d}.*")]:
            file.rename(file.with_name(f"episode_{numbers[episode]:06d}{file.suffix}"))
        edit_columns(root, numbers[episode], episode_index=[numbers[episode]] * LENGTHS[episode])
    for name in ("episodes", "episodes_stats"):
        edit_lines(root, name, lambda row: {**row, "episode_index": numbers[row["episode_index"]]})


def no_stats(root):
    (root / "meta" / "episodes_stats.jsonl").unlink()


def half_the_stats(root):
    edit_lines(root, "episodes_stats", lambda row: row if row["episode_index"] else None)


LAYOUTS = {
    "version 2.0": lambda root: (no_stats(root), edit_info(root, codebase_version="v2.0")),
    "no statistics": no_stats,
    "statistics of some episodes": half_the_stats,
    "gaps in the numbers": lambda root: renumber(root, [2, 5, 103]),
    "gaps and no statistics": lambda root: (renumber(root, [1, 2, 9]), no_stats(root)),
    "index restarts": lambda root: [edit_columns(root, i, index=list(range(n))) for i, n in enumerate(LENGTHS)],
    "index is offset": lambda root: edit_columns(root, 1, index=[7_000 + i for i in range(LENGTHS[1])]),
    "frame_index from 1": lambda root: edit_columns(root, 0, frame_index=list(range(1, LENGTHS[0] + 1))),
    "byte order marks": lambda root: [
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()) for path in (root / "meta").iterdir()
    ],
    "hidden files": lambda root: [
        path.with_name(f"._{path.name}").write_bytes(b"\0\5") for path in [*root.rglob("*.*")] if path.is_file()
    ],
    "totals of other episodes": lambda root: edit_info(root, total_episodes=7, total_frames=1, total_tasks=9),
    "no chunk size": lambda root: edit_info(root, chunks_size=1000, total_chunks=None, splits={}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_hold_the_same_data(layout, old, tmp_path):
    values = {key: old_rows(old, key) for key in ("observation.state", "action")}
    LAYOUTS[layout](old)
    before = fingerprint(old)
    convert(old, tmp_path / "new")
    assert fingerprint(old) == before
    assert_converted(old, tmp_path / "new", old / "videos")
    chunks = ActionChunks.load(tmp_path / "new", horizon=2)
    assert chunks.episode_ids == [0, 1, 2]
    for key, expected in values.items():
        assert np.array_equal(chunks.columns[key].numpy(), expected)
    rows = pq.read_table(next((tmp_path / "new" / "data").rglob("*.parquet")))
    assert rows["index"].to_pylist() == list(range(sum(LENGTHS)))
    assert rows["frame_index"].to_pylist() == [i for n in LENGTHS for i in range(n)]
    stats = json.loads((tmp_path / "new" / "meta" / "stats.json").read_text())
    state = values["observation.state"].astype(np.float64)
    assert np.allclose(stats["observation.state"]["mean"], state.mean(0), atol=1e-5)
    assert np.allclose(stats["observation.state"]["max"], state.max(0))
    if CAMERA in stats:
        assert np.array(stats[CAMERA]["mean"]).shape == (3, 1, 1)


def test_statistics_of_cameras_are_computed_where_there_are_none(old, tmp_path):
    no_stats(old)
    for episode, length in enumerate(LENGTHS):
        grey = np.full((length, 48, 64, 3), 51, np.uint8)
        write_video(old / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4", grey)
    made = convert(old, tmp_path / "new")
    assert CAMERA in made.described
    stats = json.loads((tmp_path / "new" / "meta" / "stats.json").read_text())
    assert np.allclose(stats[CAMERA]["mean"], 0.2, atol=0.02)


def test_task_numbers_may_have_gaps(old, tmp_path):
    edit_lines(old, "tasks", lambda row: {**row, "task_index": 3 * row["task_index"] + 1})
    for episode, length in enumerate(LENGTHS):
        edit_columns(old, episode, task_index=[3 * (episode % 2) + 1] * length)
    convert(old, tmp_path / "new")
    assert_converted(old, tmp_path / "new", old / "videos")
    batch = ActionChunks.load(tmp_path / "new", horizon=1).batch([0, LENGTHS[0]])
    assert batch["task"] == ["Task 0.", "Task 1."]


SHAPES = {
    "channel first": ([3, 48, 64], ["channel", "height", "width"]),
    "channels first": ([3, 48, 64], ["channels", "height", "width"]),
    "channel first, no names": ([3, 48, 64], None),
    "width first": ([64, 48, 3], ["width", "height", "channels"]),
    "as recorded": ([48, 64, 3], ["height", "width", "channel"]),
    "another size": ([480, 640, 3], ["height", "width", "channels"]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_cameras_of_any_order_of_axes(shape, old, tmp_path):
    info = read_info(old)
    info["features"][CAMERA]["shape"], info["features"][CAMERA]["names"] = SHAPES[shape]
    edit_info(old, features=info["features"])
    convert(old, tmp_path / "new")
    assert_converted(old, tmp_path / "new", old / "videos")
    feature = read_info(tmp_path / "new")["features"][CAMERA]
    assert (feature["shape"], feature["names"]) == ([48, 64, 3], ["height", "width", "channels"])


@pytest.mark.parametrize("more", [2, 1, -1, -2])
def test_a_video_a_few_frames_longer_or_shorter_than_its_rows(more, old, tmp_path):
    video = old / "videos" / "chunk-000" / CAMERA / "episode_000000.mp4"
    write_video(video, np.random.default_rng(3).integers(0, 256, (7 + more, 48, 64, 3), dtype=np.uint8))
    made = convert(old, tmp_path / "new")
    assert (made.spare_frames, made.dropped_rows) == (max(more, 0), max(-more, 0))
    chunks = ActionChunks.load(tmp_path / "new", horizon=1, images=True)
    kept = min(7, 7 + more)
    assert chunks.lengths.tolist() == [kept, *LENGTHS[1:]]
    assert chunks.frames == made.frames
    expected = [decode(path)[:length] for path, length in zip(sorted(old.rglob("*.mp4")), chunks.lengths, strict=True)]
    assert torch.equal(chunks.batch(range(len(chunks)), raw=True)[CAMERA], torch.cat(expected))


ESCAPES = {
    "data_path": "../{episode_index}.parquet",
    "data_path absolute": "/{episode_index}.parquet",
    "data_path hidden": "data/../../{episode_index:06d}.parquet",
    "video_path": "../{video_key}{episode_index:06d}.mp4",
    "video_path width": "{episode_index:0999999999d}.mp4",
    "data_path width": "{episode_index:>99999999}.parquet",
    "data_path attribute": "{episode_index.__class__}.parquet",
    "video_path field": "{unknown}.mp4",
    "data_path nothing": "",
}


@pytest.mark.parametrize("name", ESCAPES)
def test_paths_of_a_source_stay_inside_it(name, old, tmp_path):
    edit_info(old, **{name.split()[0]: ESCAPES[name]})
    before = fingerprint(tmp_path)
    assert f"source {name.split()[0]}: " in error(old, tmp_path / "new")
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("camera", ["../../out", "/tmp/out", "a/b", "observation.[im]", "a\\b", ".."])
def test_the_name_of_a_camera_is_no_path(camera, old, tmp_path):
    features = read_info(old)["features"]
    edit_info(old, features={camera if key == CAMERA else key: value for key, value in features.items()})
    before = fingerprint(tmp_path)
    assert "camera in" in error(old, tmp_path / "new")
    assert fingerprint(tmp_path) == before


def test_neither_folder_is_inside_the_other(old, tmp_path):
    for root in (old / "new", old / "a" / "new"):
        before = fingerprint(old)
        with pytest.raises(DatasetError, match="a folder outside of the source"):
            convert(old, root)
        assert fingerprint(old) == before
    hidden = shutil.copytree(old, tmp_path / ".new.converting")
    with pytest.raises(DatasetError, match="a folder outside of the source"):
        convert(hidden, tmp_path / "new")
    assert len(fingerprint(hidden)) == len(fingerprint(old))
    (tmp_path / "link").symlink_to(old)
    with pytest.raises(DatasetError, match="root: "):
        convert(old, tmp_path / "link" / "new")


def test_a_full_disk_leaves_room_for_the_same_command(old, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    for step in ("write_table", "stage", "run_lerobot"):
        with monkeypatch.context() as patch:
            where = (
                "anyorder.datasets.write.convert.pq.write_table"
                if step == "write_table"
                else f"anyorder.datasets.write.convert.{step}"
            )
            patch.setattr(where, full)
            with pytest.raises(OSError, match="No space"):
                convert(old, tmp_path / "new")
        assert sorted(p.name for p in tmp_path.iterdir()) == ["old"]
    convert(old, tmp_path / "new")


def test_what_git_has_not_fetched_is_explained(old, tmp_path):
    for pattern in ("*.mp4", "*.parquet", "episodes.jsonl", "info.json"):
        file = next(old.rglob(pattern))
        whole = file.read_bytes()
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        assert "git lfs pull" in error(old, tmp_path / "new")
        file.write_bytes(whole)


def test_more_bad_sources_are_one_line_each(old, tmp_path):
    new = tmp_path / "new"
    edit_info(old, chunks_size=0)
    assert error(old, new).startswith("source chunks_size: 0 given")
    edit_info(old, chunks_size=1000)
    edit_columns(old, 2, task_index=[5] * LENGTHS[2])
    assert "task_index in" in error(old, new)
    edit_columns(old, 2, task_index=[0] * LENGTHS[2])
    edit_lines(old, "episodes", lambda row: {**row, "episode_index": 0})
    assert "0 twice" in error(old, new)
