"""``anyorder demo``: record, train several factorizations of one network, roll out, compare."""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TaskID, TimeElapsedColumn

from anyorder.bars import progress_bars, shown_together
from anyorder.commands import record, report, rollout, tokenize, train
from anyorder.datasets.read.folder import read_info
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, ConfigError, UserError, system_failure
from anyorder.factorization import FactorizationConfig
from anyorder.files import write_whole
from anyorder.folders import owned, staged_folder
from anyorder.processes import Child
from anyorder.rollouts.results import EPISODES
from anyorder.settings import Settings, setting
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.coefficients import DctConfig
from anyorder.training.config import MAX_WORKERS, TRAIN_CONFIG, DatasetConfig, TrainConfig

POLICIES = ("autoregressive", "masked_diffusion", "gaussian_diffusion", "mip", "regression")
POLL_S = 0.5


@dataclass
class DemoConfig(Settings):
    """Settings of ``anyorder demo``."""

    env: EnvConfig = setting(meaning="What to record; `--help` lists the environments.")
    tokenizer: TokenizerConfig = setting(DctConfig, "What makes tokens of actions; `--help` lists the tokenizers.")
    output_dir: str = setting("outputs/demo", "A folder without a finished demo; an interrupted one continues.")
    episodes: int = setting(400, "Demonstrations.", least=1, most=MAX_COUNT)
    policies: list[str] = setting(list(POLICIES), "The factorizations to train.")
    steps: int = setting(1000, "Optimizer steps of each policy.", least=1, most=MAX_COUNT)
    rollouts: int = setting(100, "Episodes of each policy, on seeds that were not recorded.", least=1, most=MAX_COUNT)
    videos: int = setting(1, "Filmed episodes of each policy.", least=0, most=MAX_COUNT)
    workers: int = setting(2, "Policies trained at the same time, one CPU thread each.", least=1, most=MAX_WORKERS)
    seed: int = setting(0, "Seed of recording and training.", least=0, most=MAX_COUNT)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.policies:
            FactorizationConfig.member(name, "policies")


def run(config: DemoConfig, console: Console) -> None:
    """Run every step, printing the command that does it alone; resumable, finished steps are kept."""
    with owned(Path(config.output_dir), "output_dir"):
        run_steps(config, console)


def again(config: DemoConfig) -> str:
    """Return what the same command does after it was cut off."""
    return "goes on" if Path(config.output_dir).is_dir() else "begins again"


def run_steps(config: DemoConfig, console: Console) -> None:
    """Record, tokenize, train, roll out, compare."""
    started = time.monotonic()
    folder = Path(config.output_dir)
    if (folder / "summary.json").exists():
        raise ConfigError("output_dir", str(folder), "a new folder, as this one holds a finished demo")
    dataset = folder / "dataset"
    check_begun(config, folder)
    console.rule(f"1. {config.episodes} demonstrations")
    recording = record.RecordConfig(
        env=config.env, root=str(dataset), episodes=config.episodes, seed=config.seed, resume=True
    )
    record.run(recording, console)

    console.rule("2. action tokens")
    tokenize.run(
        tokenize.TokenizeConfig(dataset=DatasetConfig(root=str(dataset), allow_short=True), tokenizer=config.tokenizer),
        console,
    )

    console.rule(f"3. {len(config.policies)} factorizations of one network")
    train_and_roll_out(config, folder, console)

    console.rule("4. comparison")
    runs = [folder / name for name in config.policies]
    page = folder / "report.html"
    page.unlink(missing_ok=True)
    report.run(report.ReportConfig([str(run) for run in runs], str(page), "anyorder demo"), console)
    summary = {"policies": {run.name: policy_summary(run) for run in runs}}
    summary_text = json.dumps({**summary, "seconds": round(time.monotonic() - started, 1)}, indent=2)
    write_whole(folder / "summary.json", summary_text + "\n")
    console.print(f"summary: {folder / 'summary.json'}, videos: {folder}/*/rollout/videos/*.mp4")
    console.print(f"total time {time.monotonic() - started:.0f} s")


def check_begun(config: DemoConfig, folder: Path) -> None:
    """Refuse other numbers than those that the policies of an interrupted demo were trained and rolled out with.

    Raises:
        UserError: another number of demonstrations or rollouts; or what says so is damaged.
    """
    dataset, begun = folder / "dataset", folder.glob(f"*/{TRAIN_CONFIG}")
    if any(begun) and (dataset / "meta" / "info.json").is_file():
        check_same("episodes", config.episodes, read_info(dataset, "output_dir").total_episodes)
    for name in config.policies:
        rolled = folder / name / "rollout"
        if (rolled / "summary.json").exists():
            check_same("rollouts", config.rollouts, episodes_done(rolled))


def check_same(field: str, given: int, before: int) -> None:
    """Refuse another number than that ``before``."""
    if given != before:
        raise ConfigError(field, given, f"{before}, as in the demo to resume")


def train_and_roll_out(config: DemoConfig, folder: Path, console: Console) -> None:
    """Train the policies, ``workers`` at a time in processes of one thread, and roll each out."""
    training, rolling = (
        progress_bars(MofNCompleteColumn(), TimeElapsedColumn(), description="{task.description:<20}", console=console)
        for _ in range(2)
    )
    bars: dict[str, tuple[TaskID, TaskID]] = {}
    for name in config.policies:
        bars[name] = (
            training.add_task(f"train {name}", total=config.steps, start=False),
            rolling.add_task(f"roll out {name}", total=config.rollouts, start=False),
        )

    def look() -> None:
        for name, (train_bar, rollout_bar) in bars.items():
            move(training, train_bar, last_step(folder / name))
            move(rolling, rollout_bar, episodes_done(folder / name / "rollout"))

    work_of = {n: (train_config(config, folder, n), rollout_config(config, folder, n)) for n in config.policies}
    with shown_together(console, training, rolling):
        work_all(work_of, config.workers, look)


Work = tuple[TrainConfig, rollout.RolloutConfig]


def work_all(work_of: dict[str, Work], workers: int, look: Callable[[], None]) -> None:
    """Do the work of every policy, ``workers`` at a time; ``look`` is called twice a second.

    Raises:
        UserError: one of them failed or its process died; the others are ended.
        OSError: the system refused something to one of them.
    """
    waiting = list(work_of)[::-1]
    team = [Child(serve) for _ in range(min(workers, len(waiting)))]
    busy: dict[Any, tuple[Child, str]] = {}

    def give(child: Child) -> None:
        if waiting:
            name = waiting.pop()
            child.pipe.send(work_of[name])
            busy[child.pipe] = child, name

    try:
        for child in team:
            give(child)
        while busy:
            for pipe in wait(list(busy), timeout=POLL_S):
                child, name = busy.pop(pipe)
                try:
                    error = child.pipe.recv()
                except (EOFError, ConnectionError):
                    child.process.join()
                    status = child.process.exitcode
                    words = f"{name}: its process died, exit status {status}; the same command goes on"
                    raise UserError(words) from None
                if error is not None:
                    raise error
                give(child)
            look()
    finally:
        for child in team:
            child.stop()


def serve(pipe: Connection) -> None:
    """Do the work that comes through the pipe until it closes; send back what went wrong, or None."""
    while True:
        training, rolling = pipe.recv()
        try:
            work(training, rolling)
        except UserError as error:
            pipe.send(error)
        except Exception as error:
            refused = system_failure(error)
            pipe.send(RuntimeError(traceback.format_exc()) if refused is None else OSError(refused))
        else:
            pipe.send(None)


def work(training: TrainConfig, rolling: rollout.RolloutConfig) -> None:
    """Train one policy and roll it out, quietly, on one thread."""
    import shutil

    import torch

    # Two torch threads on two busy cores can be 30 times slower than one.
    torch.set_num_threads(1)
    quiet = Console(quiet=True)
    train.run(training, quiet)
    output = Path(training.output_dir) / "rollout"
    if (output / "summary.json").exists():
        return
    shutil.rmtree(output, ignore_errors=True)
    rollout.run(rolling, quiet)


def train_config(config: DemoConfig, folder: Path, name: str) -> TrainConfig:
    """Return the training settings of one policy: only the factorization differs."""
    return TrainConfig(
        output_dir=str(folder / name),
        dataset=DatasetConfig(root=str(folder / "dataset"), allow_short=True),
        factorization=FactorizationConfig.named(name),
        tokenizer=config.tokenizer,
        steps=config.steps,
        seed=config.seed,
        device="cpu",
        resume=True,
        progress=False,
    )


def rollout_config(config: DemoConfig, folder: Path, name: str) -> rollout.RolloutConfig:
    """Return the rollout settings of one policy."""
    return rollout.RolloutConfig(
        policy=str(folder / name), env=config.env, episodes=config.rollouts, videos=config.videos, device="cpu"
    )


def policy_summary(run: Path) -> dict[str, Any]:
    """Return one policy's numbers for ``summary.json``; the NLL is null where there is none."""
    from anyorder.reports.runs import read_run

    found = read_run(run)
    assert found.rollouts is not None
    return {
        "success_count": found.rollouts.successes,
        "episodes": found.rollouts.episodes,
        "success_interval": list(found.rollouts.interval),
        "nll_nats_per_token": None if found.final is None else found.final.nll_nats_per_token,
        "nll_is_exact": found.exact,
        "chunk_latency_ms": found.rollouts.chunk_latency_ms,
        "forwards": found.rollouts.calls_per_chunk,
        "params": found.params,
    }


def move(bars: Progress, task: TaskID, done: int) -> None:
    """Move a bar, whose clock starts with the first progress and stops at the end."""
    if done and bars.tasks[task].start_time is None:
        bars.start_task(task)
    bars.update(task, completed=done)


def last_step(run: Path) -> int:
    """Return the last step a run has logged."""
    from anyorder.training.metrics import read_metrics

    lines = read_metrics(run)
    return lines[-1]["step"] if lines else 0


def episodes_done(rolled: Path) -> int:
    """Return how many episodes a rollout has finished, whose folder appears when all are."""
    for folder in (rolled, staged_folder(rolled)):
        if (folder / EPISODES).is_file():
            return (folder / EPISODES).read_text().count("\n")
    return 0
