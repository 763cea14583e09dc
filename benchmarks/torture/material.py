"""One small folder of every kind that this package reads, and how each file in it is read."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from anyorder import cli
from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.write.commit import INFO_PATH
from anyorder.datasets.write.origin import ORIGIN_PATH, Origin
from anyorder.datasets.write.recording import _open, record
from anyorder.factorization import FactorizationConfig
from anyorder.files import CHECKSUM, DIGEST, write_json
from anyorder.laws.laws_file import read_laws
from anyorder.laws.runs import read_runs
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.reports.rollouts import read_episodes
from anyorder.reports.runs import read_run
from anyorder.reports.settings_diff import compare_settings
from anyorder.rollouts.rollout import rollout
from anyorder.settings import to_plain
from anyorder.studies import files as study_files
from anyorder.studies.collect import data_facts, read_study, standings, table, write_study, write_table
from anyorder.studies.config import EvaluationConfig, GridConfig, StudyConfig, StudyDataset
from anyorder.studies.data import StudyData
from anyorder.studies.grid import Member, expand
from anyorder.studies.run import HeldOut, Training, run_member
from anyorder.sums import SUMS
from anyorder.tensors import METADATA, read_tensors
from anyorder.training.checkpoint import check_checkpoint, load_checkpoint, load_policy, recorded_env
from anyorder.training.config import DatasetConfig, TrainConfig
from anyorder.training.learner import Learner
from anyorder.training.loop import train
from anyorder.training.metrics import read_metrics
from anyorder.training.optimizer import Schedule
from anyorder.training.resume import check_output
from anyorder.training.run_folder import last_checkpoint
from tests.datasets.toy_env import ToyConfig
from tests.laws.planted import AR, DIFFUSION, planted, together

LAST = "run/checkpoints/last"
WHERE = "where.txt"
"""Holds where everything was made."""
OLD = "old"
"""A copy of everything as older versions wrote it, without digests."""


@dataclass(frozen=True)
class Kind:
    """A file and how it is read.

    Attributes:
        file: relative to the folder of all.
        read: given the folder of all, gives what ``same`` compares.
        log: lines are appended to it, so what a kill leaves is a part of them.
    """

    file: str
    read: Callable[[Path], Any]
    log: bool = False


def make(folder: Path) -> None:
    """Make everything that is to be damaged; takes half a minute."""
    (folder / WHERE).write_text(str(folder))
    root = folder / "dataset"
    env = ToyConfig(camera=True, shortest=10, longest=14)
    for episodes in (3, 6):
        record(env, root, episodes=episodes, resume=episodes > 3)
    run = folder / "run"
    policy = train(train_config(folder)).policy
    rollout(env, policy, episodes=4, seed=7, batch_size=4, output=run / "rollout", videos=1)
    make_study(folder)
    runs = together(planted(AR, 30, seed=1, family="ar"), planted(DIFFUSION, 30, seed=2, family="masked_diffusion"))
    columns = {
        name: getattr(runs, name).tolist() for name in ("params", "tokens", "unique_tokens", "loss", "factorization")
    }
    write_table(
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], folder / "runs.parquet"
    )
    words = [f"runs={folder / 'runs.parquet'}", f"out={folder / 'laws'}", "bootstrap=100"]
    assert cli.main(["fit", *words]) == 0
    make_old(folder)


def train_config(folder: Path) -> TrainConfig:
    """Return the settings of the run."""
    return TrainConfig(
        dataset=DatasetConfig(str(folder / "dataset"), observations=["observation.state"], allow_short=True),
        output_dir=str(folder / "run"),
        factorization=FactorizationConfig.named("masked_diffusion"),
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        chunk_size=6,
        n_action_steps=4,
        steps=4,
        save_freq=2,
        log_freq=1,
        eval_freq=2,
        batch_size=8,
        resume=True,
        progress=False,
        device="cpu",
    )


def study_config(folder: Path) -> StudyConfig:
    """Return the settings of the study."""
    scored = EvaluationConfig(chunks=8, test_chunks=8, draws=2, test_draws=2)
    return StudyConfig(
        dataset=StudyDataset(str(folder / "dataset"), validation_fraction=0.34, test_fraction=0.34),
        families={"ar": FactorizationConfig.named("autoregressive")},
        grids={"main": GridConfig(["ar"], [16], [50], [1, 2])},
        evaluation=scored,
    )


def make_study(folder: Path) -> None:
    """Make a study of two runs: one is finished, one under way."""
    out, study = folder / "study", study_config(folder)
    data = StudyData(study)
    done, begun = expand(study, data)
    write_study(out, to_plain(study), data_facts(data), [done, begun])
    run_member(done.settings, data, HeldOut.of(data, 8, 8), study_files.run_folder(out, done.id), save_s=1e9)
    training = Training(begun.settings, data)
    while training.step not in training.moments:
        training.advance()
    training.validate(HeldOut.of(data, 8, 8))
    path = study_files.run_folder(out, begun.id)
    training.save(path / study_files.STATE)
    training.sign_of_life(path)
    success = {"success": 0.5, "success_low": 0.2, "success_high": 0.8, "success_episodes": 8, "seed": 1}
    write_json(study_files.run_folder(out, done.id) / study_files.SUCCESS, success)


def copy(path: Path, to: Path) -> None:
    """Copy a file or a folder, links as links."""
    if path.is_dir():
        shutil.copytree(path, to, symlinks=True)
    else:
        shutil.copy(path, to)


def make_old(folder: Path) -> None:
    """Copy everything without digests."""
    names = [path.name for path in folder.iterdir()]
    old = folder / OLD
    old.mkdir()
    for name in names:
        copy(folder / name, old / name)
    for path in old.rglob(SUMS):
        path.unlink()
    for path in old.rglob("*.json"):
        plain = json.loads(path.read_text())
        if isinstance(plain, dict):
            plain.pop(DIGEST, None)
        path.write_text(json.dumps(plain, indent=1))
    for path in old.rglob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line.pop(CHECKSUM)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for path in (old / "study").rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()[METADATA])
        del facts[DIGEST]
        save_file(load_file(path), path, metadata={METADATA: json.dumps(facts)})
    pq.write_table(pq.read_table(folder / "runs.parquet").replace_schema_metadata(), old / "runs.parquet")


def kinds(folder: Path) -> dict[str, Kind]:
    """Return every kind of file below ``folder``, by name."""
    found: dict[str, Kind] = {}
    for name in ("config.json", "model.safetensors", "train_config.json", "policy_preprocessor.json", SUMS):
        found[f"checkpoint {name}"] = Kind(f"{LAST}/pretrained_model/{name}", policy)
    state = ("weights.safetensors", "optimizer_state.safetensors", "optimizer_param_groups.json")
    for name in (*state, "state.json", SUMS):
        found[f"training state {name}"] = Kind(f"{LAST}/training_state/{name}", resumed)
    for name in ("train_config.json", "data.json", "rollout/summary.json"):
        found[f"run {name}"] = Kind(f"run/{name}", run)
    found["run metrics.jsonl"] = Kind("run/metrics.jsonl", metrics, log=True)
    found["run rollout/episodes.jsonl"] = Kind("run/rollout/episodes.jsonl", episodes, log=True)
    root = folder / "dataset"
    for path in sorted(root.rglob("*.parquet")):
        name = path.relative_to(root).as_posix()
        if path == min(path.parent.glob("*.parquet")):
            found[f"dataset {name}"] = Kind(f"dataset/{name}", dataset)
    for name in (INFO_PATH.as_posix(), ORIGIN_PATH.as_posix(), "meta/stats.json", SUMS):
        found[f"dataset {name}"] = Kind(f"dataset/{name}", dataset)
    video = min((root / "videos").rglob("*.mp4")).relative_to(root).as_posix()
    found["dataset video"] = Kind(f"dataset/{video}", pictures)
    for path in sorted((folder / "study").rglob("*.*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".json", ".safetensors") and path.name != study_files.SETTINGS:
            found[f"study {path.name}"] = Kind(name, study)
    found["laws.json"] = Kind("laws/laws.json", lambda at: read_laws(at / "laws"))
    found["runs.parquet"] = Kind("runs.parquet", lambda at: read_runs(at / "runs.parquet"))
    return found


def policy(folder: Path) -> Any:
    """Load the policy of the run, and the environment of its data."""
    made = load_policy(folder / "run", "cpu")
    return to_plain(made.config), made.state_dict(), recorded_env(folder / "run")


@cache
def blank(folder: Path) -> Learner:
    """Return what a training begins with."""
    made = load_policy(folder / "run", "cpu")
    return Learner.of(made, Schedule(train_config(folder).optimizer, steps=1, seed=0))


def resumed(folder: Path) -> Any:
    """Continue the run from its last checkpoint."""
    learner = blank(folder)
    checkpoint = last_checkpoint(folder / "run")
    assert checkpoint is not None
    check_checkpoint(checkpoint)
    step = load_checkpoint(checkpoint, learner)
    return step, clone(learner.state())


def run(folder: Path) -> Any:
    """Read the run as reports do, and as resuming does."""
    found = read_run(folder / "run")
    compare_settings([found])
    check_output(folder / "run", train_config(Path((folder / WHERE).read_text())))
    return found


def metrics(folder: Path) -> Any:
    """Read the metrics of the run, and the run."""
    read_run(folder / "run")
    return read_metrics(folder / "run")


def episodes(folder: Path) -> Any:
    """Read the episodes of the rollout, and the run."""
    read_run(folder / "run")
    return read_episodes(folder / "run")


def dataset(folder: Path) -> Any:
    """Read the numbers of a dataset, where they come from, and what a recording would go on with."""
    root = folder / "dataset"
    chunks = ActionChunks.load(root, horizon=6, allow_short=True)
    env = ToyConfig(camera=True, shortest=10, longest=14)
    origin = _open(root, Origin.of(env, seed=0, only_successful=True), resume=True)
    return chunks.columns, chunks.tasks, chunks.fps, chunks.shapes, chunks.names, origin


def pictures(folder: Path) -> Any:
    """Read the frames of a dataset."""
    chunks = ActionChunks.load(folder / "dataset", horizon=6, allow_short=True, images=True)
    chunks.cache()
    return chunks.batch(range(0, chunks.frames, 5), raw=True)


@cache
def study_data(folder: Path) -> tuple[StudyData, list[Member]]:
    """Return the data of the study and its runs."""
    config = study_config(folder)
    data = StudyData(config)
    return data, expand(config, data)


def study(folder: Path) -> Any:
    """Read the study as `status`, `collect`, rollouts and a resumed run do."""
    out = folder / "study"
    data, (done, begun) = study_data(folder)
    read = read_study(out)
    found = standings(out, read.members)
    weights, _ = read_tensors(study_files.run_folder(out, done.id) / study_files.WEIGHTS)
    training = Training(begun.settings, data)
    training.load(study_files.run_folder(out, begun.id) / study_files.STATE)
    return (
        read,
        [(s.member, s.state, s.left, s.took_s, s.spent_s) for s in found],
        table(out),
        study_files.read_file(study_files.run_folder(out, done.id) / study_files.RESULT)["history"],
        weights,
        clone(training.learner.state()),
        (training.step, training.history, training.best, training.wall_s, training.cpu_s),
    )


def clone(value: Any) -> Any:
    """Copy tensors, in dicts of any depth."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return {name: clone(held) for name, held in value.items()} if isinstance(value, dict) else value


def same(a: Any, b: Any) -> bool:
    """Whether two things read hold the same; NaN is NaN."""
    if isinstance(a, torch.Tensor | np.ndarray):
        a, b = (np.asarray(v) for v in (a, b))
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if is_dataclass(a) and not isinstance(a, type):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        # What nobody asks for by name, such as a digest whose own name was damaged, changes nothing.
        return isinstance(b, dict) and all(name in b and same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))
