"""Small datasets (v3) written entry by entry, so that any of them can be odd."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

JOINTS = ["pan", "lift", "grip"]
CAMERA = "observation.images.top"
INDICES = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")


def feature(dtype, shape, names=None):
    return {"dtype": dtype, "shape": list(shape), "names": names}


def smooth(length, size, seed):
    """(length, size) float32 that moves slowly, within [-40, 40]."""
    phase = np.random.default_rng(seed).uniform(0, 6, size)
    return (40 * np.sin(np.linspace(0, 5, length)[:, None] + phase)).astype(np.float32)


def arrow(values):
    """A column of (nested) lists, or of numbers."""
    if not isinstance(values, np.ndarray):
        return pa.array(values)
    kind = pa.from_numpy_dtype(values.dtype)
    for _ in range(values.ndim - 1):
        kind = pa.list_(kind)
    return pa.array(values.tolist(), kind)


def png(level, size=(16, 24)):
    """A grey picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def write(
    root, lengths=(12, 12, 12, 12), columns=None, features=None, numbers=None, index=None, info=None, names=JOINTS
):
    """Write a dataset of state and action (3 each, unless given).

    Args:
        root: its folder.
        lengths: frames of each episode.
        columns: feature -> function of (episode, length) that gives its values.
        features: descriptions of those, and others for any.
        numbers: of the episodes.
        index: one array an episode, of the column ``index``.
        info: entries of meta/info.json.
        names: of the state's and the action's dimensions.
    """
    (root / "meta").mkdir(parents=True)
    (root / "data" / "chunk-000").mkdir(parents=True)
    features = {
        "action": feature("float32", [3], names),
        "observation.state": feature("float32", [3], names),
        **(features or {}),
    }
    columns = {
        "action": lambda e, n: smooth(n, 3, e + 50),
        "observation.state": lambda e, n: smooth(n, 3, e),
        **(columns or {}),
    }
    numbers, start, parts = numbers or list(range(len(lengths))), 0, []
    for episode, length in enumerate(lengths):
        counted = np.arange(length)
        table = {key: arrow(make(episode, length)) for key, make in columns.items()}
        table["timestamp"] = pa.array((counted / 10).astype(np.float32))
        table["frame_index"] = pa.array(counted)
        table["episode_index"] = pa.array(np.full(length, numbers[episode]))
        table["index"] = pa.array(counted + start if index is None else index[episode])
        table["task_index"] = pa.array(np.zeros(length, np.int64))
        parts.append(pa.table(table))
        start += length
    pq.write_table(pa.concat_tables(parts), root / "data" / "chunk-000" / "file-000.parquet")
    pq.write_table(pa.table({"task_index": [0], "task": ["Pick."]}), root / "meta" / "tasks.parquet")
    meta = {
        "codebase_version": "v3.0",
        "fps": 10,
        "total_episodes": len(lengths),
        "total_frames": start,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features | {key: feature(dtype, [1]) for key, dtype in INDICES.items()},
    }
    (root / "meta" / "info.json").write_text(json.dumps({**meta, **(info or {})}))
    return root


def edit_info(root, change):
    """Change meta/info.json by a function of its content."""
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def films(root, from_s, pictures=12, start_s=0.0, size=(16, 24), fps=10):
    """Give a dataset made by ``write`` a camera: one video, where episode e begins at ``from_s[e]``.

    Every frame is as grey as its number says.
    """
    import av

    path = root / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"g": "2", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(pictures * len(from_s)):
            grey = np.full((*size, 3), 20 + 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts = number
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    episodes(root, from_s)
    edit_info(root, lambda info: info["features"].update({CAMERA: camera("video", size)}))
    return path


def camera(dtype, size=(16, 24)):
    return feature(dtype, [*size, 3], ["height", "width", "channels"])


def episodes(root, from_s, **changes):
    """Write the table that says where in the video each episode is."""
    count, key = len(from_s), f"videos/{CAMERA}"
    table = {
        "episode_index": list(range(count)),
        f"{key}/chunk_index": [0] * count,
        f"{key}/file_index": [0] * count,
        f"{key}/from_timestamp": list(from_s),
    }
    table |= {name if name == "episode_index" else f"{key}/{name}": values for name, values in changes.items()}
    folder = root / "meta" / "episodes" / "chunk-000"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({k: v for k, v in table.items() if v is not None}), folder / "file-000.parquet")
