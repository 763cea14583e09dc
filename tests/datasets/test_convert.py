import hashlib
import json
import os
import shutil
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from anyorder.cli import main
from anyorder.datasets import ActionChunks
from anyorder.datasets.convert import RECORDED_TIME, convert
from anyorder.datasets.old_videos import has_b_frames
from anyorder.errors import DatasetError

FPS = 10
CAMERA = "observation.images.top"
LENGTHS = (7, 4, 9)


def write_video(path, frames, fps=FPS, codec="libx264", b_frames=0, times=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            codec, fps, options={"bf": str(b_frames), "g": "4", "x264-params": "scenecut=0"}
        )
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
            [
                torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1)
                for f in container.decode(video=0)
            ]
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
    features |= {
        k: {"dtype": "float32", "shape": [2], "names": ["a", "b"]} for k in ("observation.state", "action")
    }
    features[CAMERA] = {
        "dtype": "video",
        "shape": [48, 64, 3],
        "names": ["height", "width", "channels"],
        "info": None,
    }
    episodes, stats, start = [], [], 0
    for episode, length in enumerate(LENGTHS):
        values = {
            key: random.normal(size=(length, 2)).astype(np.float32) for key in ("observation.state", "action")
        }
        columns = {key: pa.array(list(v), pa.list_(pa.float32(), 2)) for key, v in values.items()}
        columns["timestamp"] = pa.array(
            (np.arange(length) / FPS + random.uniform(0, 0.05, length)).astype(np.float32)
        )
        columns["frame_index"] = pa.array(np.arange(length))
        columns["episode_index"] = pa.array(np.full(length, episode))
        columns["index"] = pa.array(np.arange(start, start + length))
        columns["task_index"] = pa.array(np.full(length, episode % 2))
        pq.write_table(pa.table(columns), root / "data" / "chunk-000" / f"episode_{episode:06d}.parquet")
        pictures = random.integers(0, 256, (length, 48, 64, 3), dtype=np.uint8)
        write_video(root / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4", pictures)
        episodes.append({"episode_index": episode, "tasks": [f"Task {episode % 2}."], "length": length})
        described = {
            key: {
                "min": v.min(0),
                "max": v.max(0),
                "mean": v.mean(0),
                "std": v.std(0),
                "count": np.array([length]),
            }
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
    return {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()
    }


def old_rows(root, key):
    files = sorted((root / "data").rglob("*.parquet"))
    return np.concatenate(
        [np.array(pq.read_table(file)[key].to_pylist(), dtype=np.float32) for file in files]
    )


def assert_converted(old, new, videos, horizon=2):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    chunks = ActionChunks.load(new, horizon=horizon, images=True)
    for key in ("observation.state", "action"):
        assert np.array_equal(chunks.columns[key].numpy(), old_rows(old, key))
    assert np.array_equal(chunks.columns[RECORDED_TIME].numpy(), old_rows(old, "timestamp"))
    assert chunks.lengths.tolist() == list(LENGTHS)
    assert chunks.tasks == ["Task 0.", "Task 1."]
    frames = torch.cat([decode(file) for file in sorted(videos.rglob("*.mp4"))])
    assert torch.equal(chunks.batch(range(len(chunks)), raw=True)[CAMERA], frames)
    dataset = LeRobotDataset("local/new", root=new, video_backend="pyav")
    for row in range(len(dataset)):
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
        write_video(
            folder / f"episode_{episode:06d}.mp4", pictures, b_frames=2, times=[37 * i for i in range(length)]
        )
        assert has_b_frames(folder / f"episode_{episode:06d}.mp4")
    conversion = convert(old, tmp_path / "new", {CAMERA: folder})
    assert conversion.restamped == 3
    assert_converted(old, tmp_path / "new", folder)


def test_a_kill_leaves_nothing_half_done(old, tmp_path, monkeypatch):
    before = fingerprint(old)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("anyorder.datasets.convert.check_new", die)
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
    write_video(video, np.zeros((3, 48, 64, 3), np.uint8))
    assert error(old, new) == f"frames of {video}: 3 given, allowed: 4, the rows of its episode"
    write_video(video, np.zeros((4, 32, 64, 3), np.uint8))
    assert error(old, new).startswith(f"videos of {CAMERA}: ")
    video.unlink()
    assert error(old, new).startswith(f"video file: {str(video)!r} given")
    video.write_bytes(whole)
    edit_info(old, codebase_version="v2.0")
    assert error(old, new) == "source version: 'v2.0' given, allowed: v2.1"
    edit_info(old, codebase_version="v3.0")
    assert "needs no conversion" in error(old, new)
    edit_info(old, codebase_version="v2.1", fps=9.5)
    assert error(old, new).startswith("source fps: 9.5 given")
    edit_info(old, fps=FPS)
    parquet = old / "data" / "chunk-000" / "episode_000002.parquet"
    parquet.write_bytes(parquet.read_bytes()[:-9])
    assert error(old, new).startswith(f"source file: {str(parquet)!r} given, allowed: a whole parquet file")
    (old / "meta" / "episodes.jsonl").write_text('{"episode_index": 0')
    assert "episodes.jsonl" in error(old, new)
