"""``anyorder record``: demonstrations by a scripted expert, as a LeRobot dataset."""

import json
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from anyorder.bars import counting
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, check_number


@dataclass
class RecordConfig:
    """Settings; ``configs/record.yaml`` explains them."""

    env: EnvConfig
    root: str
    episodes: int = 50
    seed: int = 0
    repo_id: str | None = None
    only_successful: bool = True
    videos: bool = True
    resume: bool = False

    def __post_init__(self) -> None:
        check_number("episodes", self.episodes, 1, MAX_COUNT, whole=True)
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
