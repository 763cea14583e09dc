"""``anyorder convert``: an older LeRobot dataset (v2.0, v2.1) to the version that everything here reads (v3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.settings import Settings, setting

if TYPE_CHECKING:
    from anyorder.datasets.write.convert import Conversion


@dataclass
class ConvertConfig(Settings):
    """Settings of ``anyorder convert``."""

    source: str = setting(meaning="Folder of the dataset (v2.0, v2.1).")
    root: str = setting(meaning="Folder of the new one; an existing one is refused, and one inside source.")
    videos: dict[str, str] = setting(
        {}, "Where a camera's episode_*.mp4 are, if not in source, as re-encoded ones: videos.<camera>=FOLDER."
    )


def run(config: ConvertConfig, console: Console) -> None:
    """Convert and say what came out."""
    from anyorder.datasets.write.convert import convert
    from anyorder.datasets.write.old_dataset import RECORDED_TIME

    with console.status("checking and converting"):
        done = convert(config.source, config.root, config.videos)
    console.print(f"{done.root}: {done.episodes} episodes, {done.frames} frames at {done.fps} Hz (v3)")
    if done.shift_s:
        console.print(
            f"time stamps were up to {done.shift_s:.3f} s away from frame number / fps, by which LeRobot finds video "
            f"frames: timestamp now holds the latter, {RECORDED_TIME} the source's"
        )
    for line in remarks(done):
        console.print(line, markup=False, highlight=False)


def remarks(done: "Conversion") -> list[str]:
    """Return what is not as it was in the source, a line each."""
    counted = (
        (done.restamped, "videos were given new time stamps; their pictures are unchanged"),
        (done.renumbered, "episodes have another number, as those of the source leave gaps"),
        (done.dropped_rows, "rows at the ends of episodes were left out, as videos end before them"),
        (done.spare_frames, "frames at the ends of videos are not used, as their episodes end before"),
    )
    lines = [f"{count} {what}" for count, what in counted if count]
    if done.described:
        lines.append(f"statistics that the source lacks were computed: {', '.join(done.described)}")
    return lines
