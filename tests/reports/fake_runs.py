"""Small run folders written by hand, in the form the training loop and the rollouts write."""

import json
from pathlib import Path
from typing import Any

import numpy as np

SETTINGS: dict[str, Any] = {
    "dataset": {"root": "data/lift", "episodes": None, "seed": 0},
    "tokenizer": {"type": "fast", "scale": 10.0},
    "network": {"width": 64, "depth": 3},
    "chunk_size": 16,
    "n_action_steps": 8,
    "steps": 100,
    "batch_size": 64,
    "rollout": {"episodes": 0, "env": None, "seed": 500000},
    "progress": False,
}
NLL = (60.0, 48.0, 50.4)
"""Nats per chunk at steps 20, 60 and 100; the best is not the last."""


def write_run(
    folder: Path,
    family: str = "autoregressive",
    *,
    tokens: bool = True,
    success: tuple[int, int] | None = None,
    forwards: int | None = 12,
    chunk_error: tuple[float, float] | None = None,
    **settings: Any,
) -> Path:
    """Write a run; ``success`` = (successes, episodes) adds a rollout, ``chunk_error`` that and its standard error."""
    folder.mkdir(parents=True)
    plain = {"output_dir": str(folder), "factorization": {"type": family}, **SETTINGS, **settings}
    (folder / "train_config.json").write_text(json.dumps(plain))
    data = {
        "train_episodes": 45,
        "validation_episodes": 5,
        "train_frames": 2700,
        "train_minutes": 1.5,
        "train_action_tokens": 1946 if tokens else None,
        "params": 350592,
    }
    (folder / "data.json").write_text(json.dumps(data))
    lines: list[dict[str, Any]] = [
        {"step": step, "train_loss": 100 / step, "grad_norm": 1.0, "lr": 1e-3, "epoch": 0.1}
        for step in range(10, 101, 10)
    ]
    for step, nll in zip((20, 60, 100), NLL, strict=True):
        line = {"step": step, "val_loss": nll if tokens else nll / 1000, "val_chunks": 300}
        if tokens:
            line |= {
                "val_nll_nats_per_chunk": nll,
                "val_nll_standard_error": 2.4,
                "val_nll_nats_per_token": nll / 12,
                "val_nll_nats_per_value": nll / 96,
            }
        lines.append(line)
    if chunk_error is not None:
        lines.append({"step": 100, "chunk_error": chunk_error[0], "chunk_error_standard_error": chunk_error[1]})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if success is not None:
        write_rollout(folder, *success, forwards=forwards)
    return folder


def write_rollout(run: Path, successes: int, episodes: int, *, forwards: int | None = 12) -> None:
    """Write a rollout of ``episodes`` episodes, each of 20 steps, thus of 3 chunks."""
    folder = run / "rollout"
    folder.mkdir()
    lines = [
        {
            "index": i,
            "seed": 100 + i,
            "success": i < successes,
            "return": 0.0,
            "length": 20,
            "chunk_latency_ms": 21.4,
            **({} if forwards is None else {"forwards": 3 * forwards}),
        }
        for i in range(episodes)
    ]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "env": "so101",
        "options": {"task": "lift"},
        "seed": 100,
        "episodes": episodes,
        "successes": successes,
        "chunk_latency_ms": 21.4,
    }
    (folder / "summary.json").write_text(json.dumps(summary))


def write_video(path: Path, frames: int = 12, fps: int = 10) -> Path:
    """Write a film of 64 x 48 pixels that turns from black to white."""
    import imageio.v2 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    with imageio.get_writer(path, format="FFMPEG", mode="I", fps=fps, macro_block_size=1) as writer:  # type: ignore[arg-type]
        for level in np.linspace(0, 255, frames):
            writer.append_data(np.full((48, 64, 3), level, dtype=np.uint8))
    return path
