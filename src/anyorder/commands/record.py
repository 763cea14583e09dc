"""``anyorder record``: demonstrations by a scripted expert, as a LeRobot dataset."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from anyorder.bars import counting
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, check_number
from anyorder.settings import Settings, setting


@dataclass
class RecordConfig(Settings):
    """Settings of ``anyorder record``."""

    env: EnvConfig = setting(meaning="What to record; `--help` lists the environments.")
    root: str = setting(meaning="Folder of the dataset; must not exist unless resume.")
    episodes: int = setting(50, "Demonstrations in the dataset when it is done.", least=1, most=MAX_COUNT)
    seed: int = setting(0, "Reset seed of the first; the others count up from it.", least=0, most=MAX_COUNT)
    repo_id: str | None = setting(None, "LeRobot's name for the dataset; local/<folder name> when null.")
    only_successful: bool = setting(
        True, "Keep only demonstrations that reached the goal; a failed one is replaced by the next seed."
    )
    videos: bool = setting(True, "Cameras as mp4; false stores PNGs inside the parquet files.")
    resume: bool = setting(False, "Continue the dataset in root after a kill, or record more.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("seed", self.seed, 0, MAX_COUNT - self.episodes, whole=True)


def again(config: RecordConfig) -> str:
    """Return what the same command does after it was cut off."""
    info = Path(config.root) / "meta" / "info.json"
    if not info.is_file():
        return "begins again"
    how = "goes on" if config.resume else "with resume=true goes on"
    return f"{how} after {json.loads(info.read_text())['total_episodes']} episodes"


def run(config: RecordConfig, console: Console) -> None:
    """Record and say what was recorded."""
    from anyorder.datasets.write.recording import record

    with counting("recording", console) as progress:
        recording = record(
            config.env,
            config.root,
            episodes=config.episodes,
            seed=config.seed,
            repo_id=config.repo_id,
            only_successful=config.only_successful,
            use_videos=config.videos,
            resume=config.resume,
            progress=progress,
        )
    console.print(
        f"{recording.root}: {recording.episodes} episodes, {recording.frames} frames, "
        f"{recording.minutes:.1f} minutes at {recording.fps} Hz ({recording.failed} failed attempts dropped)"
    )
