"""``anyorder convert``: an older LeRobot dataset (v2.1) to the version that everything here reads (v3)."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from anyorder.datasets.convert import RECORDED_TIME


@dataclass
class ConvertConfig:
    """Settings; ``configs/convert.yaml`` explains them."""

    source: str
    root: str
    videos: dict = field(default_factory=dict)


def run(config: ConvertConfig, console: Console) -> None:
    """Convert and say what came out."""
    from anyorder.datasets.convert import convert

    with console.status("checking and converting"):
        done = convert(config.source, config.root, flat(config.videos))
    console.print(f"{done.root}: {done.episodes} episodes, {done.frames} frames at {done.fps} Hz (v3)")
    if done.shift_s:
        console.print(
            f"time stamps were up to {done.shift_s:.3f} s away from frame number / fps, by which LeRobot finds video "
            f"frames: timestamp now holds the latter, {RECORDED_TIME} the source's"
        )
    if done.restamped:
        console.print(f"{done.restamped} videos were given new time stamps; their pictures are unchanged")


def flat(nested: dict[str, Any], path: str = "") -> dict[str, str]:
    """Return nested settings under dotted names: a camera's name has dots, which Hydra reads as levels.

    >>> flat({"observation": {"images": {"top": "videos"}}})
    {'observation.images.top': 'videos'}
    """
    found: dict[str, str] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            found |= flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = str(value)
    return found
