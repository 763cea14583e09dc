"""The training loop: the same for every factorization, on one device or many."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch.optim.swa_utils import AveragedModel

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.fingerprint import check_unchanged, fingerprint
from anyorder.datasets.write.origin import Origin
from anyorder.devices import devices
from anyorder.envs.base import EnvConfig
from anyorder.errors import CheckpointError, ConfigError
from anyorder.files import Words, read_json, write_json
from anyorder.folders import owned
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import rollout
from anyorder.settings import checked, completed, dotted, to_plain
from anyorder.training.batches import StepBatches, batches_of
from anyorder.training.checkpoint import (
    PRETRAINED,
    RECORDED_ENV,
    check_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from anyorder.training.config import TRAIN_CONFIG, TrainConfig
from anyorder.training.data import load_chunks, make_policy
from anyorder.training.estimate import foretell
from anyorder.training.evaluate import ChunkError, Validation, chunk_error, validate
from anyorder.training.metrics import Metrics, read_metrics
from anyorder.training.optimise import learning_rate, make_optimizer, optimise, ramped_average
from anyorder.training.order import batch_order
from anyorder.training.progress import StepClock, TrainingProgress, decoding, tell
from anyorder.training.run_folder import last_checkpoint
from anyorder.training.watch import Watch

DATA = "data.json"
"""File of a run's folder that tells what it learns from."""
EARLY_DRAWS = 1 / 8
"""Part of ``eval_samples`` that validations before the last one draw."""

# The settings that may differ when a run is resumed: they change nothing about what is learnt, but for the two that
# have to be lowered where training diverged. The last three: an older run may have values that are now refused.
FREE_ON_RESUME = (
    "output_dir",
    "resume",
    "progress",
    "wandb",
    "device",
    "keep_checkpoints",
    "dataset.cache_gb",
    "dataset.workers",
    "optimizer.lr",
    "optimizer.grad_clip_norm",
    "temperature",
    "nucleus",
    "rollout.freq",
)


@dataclass(frozen=True)
class TrainResult:
    """What a run gave.

    Attributes:
        policy: with the averaged weights.
        validation: its scores on the held-out episodes at the end of the run; None if none were held out.
        chunk_error: of its predictions there, beside predictors that learn nothing.
        seconds: wall time of this call.
        run: the run's folder.
    """

    policy: AnyOrderPolicy
    validation: Validation | None
    chunk_error: ChunkError | None
    seconds: float
    run: Path


def train(config: TrainConfig) -> TrainResult:
    """Train a policy; see ``TrainConfig``.

    Everything random is a function of (seed, step), so a run that was killed and resumed ends bit for bit like an
    undisturbed one (on CPU).

    Raises:
        ConfigError: the output folder exists, or a setting does not fit.
        DatasetError: the dataset is missing or damaged.
        CheckpointError: resuming from a damaged checkpoint.
        DivergedError: a loss, a gradient or a weight is not finite; the last checkpoint is one from before.
    """
    with owned(Path(config.output_dir), "output_dir"):
        return _train(config)


def _train(config: TrainConfig) -> TrainResult:
    started = time.monotonic()
    run = Path(config.output_dir)
    checkpoint = check_output(run, config)
    accelerator = make_accelerator(config.device)
    with decoding(enabled=config.progress and accelerator.is_main_process) as decoded:
        train_chunks, held_out = load_chunks(
            config.dataset,
            config.chunk_size,
            config.n_obs_steps,
            progress=decoded,
            tell=tell if accelerator.is_main_process else None,
        )
    data = fingerprint(train_chunks, held_out)
    check_data(run, data)
    world, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % world:
        allowed = f"a multiple of the {world} processes"
        raise ConfigError("batch_size", config.batch_size, allowed)

    torch.manual_seed(config.seed)
    policy = make_policy(config, train_chunks)
    policy.to(accelerator.device)
    optimizer = make_optimizer(policy, config.optimizer)
    average = AveragedModel(policy, multi_avg_fn=ramped_average(config.optimizer.ema_decay))
    averaged = cast(AnyOrderPolicy, average.module)
    start = load_checkpoint(checkpoint, policy, average, optimizer) if checkpoint else 0
    model, wrapped = accelerator.prepare(policy, optimizer)
    held_out = held_out.to(accelerator.device)
    if train_chunks.cameras is None:
        train_chunks = train_chunks.to(accelerator.device)
    order = batch_order(train_chunks, config.batch_size, config.seed)
    env = rollout_env(config, train_chunks)
    settings = run_settings(config, train_chunks)
    metrics = open_run(run, start, config, policy, train_chunks, held_out, data) if rank == 0 else None
    share = config.batch_size // world

    score: Validation | None = None
    source = StepBatches(train_chunks, order, slice(rank * share, (rank + 1) * share))
    if rank == 0 and config.progress and (told := foretell(source, start, held_out, config)):
        tell(told)
    with (
        Watch(run, config) as watch,
        batches_of(source, start, config.steps, config.dataset.workers, accelerator.device) as batches,
        TrainingProgress(config, start, enabled=config.progress and rank == 0) as progress,
    ):
        clock = StepClock()
        for step in range(start, config.steps):
            watch.step = step + 1
            clock.start()
            rate = learning_rate(step, config.steps, config.optimizer)
            for group in wrapped.param_groups:
                group["lr"] = rate
            loss, norm = optimise(accelerator, model, wrapped, next(batches), config, step)
            average.update_parameters(policy)
            clock.stop()
            watch.check(policy, averaged)
            done = step + 1
            if metrics is None:
                continue
            if done % config.log_freq == 0 or done == config.steps:
                seen = epoch(done, config, train_chunks)
                seconds = clock.means(batches.take_waited_s())
                metrics.log(done, train_loss=loss, grad_norm=norm, lr=rate, epoch=seen, **seconds)
            progress.step(done, loss)
            if held_out.frames and (done % config.eval_freq == 0 or done == config.steps):
                # Along the way fewer draws do: what differs between episodes is the larger part of the error.
                share_of_draws = 1 if done == config.steps else EARLY_DRAWS
                score = evaluate(averaged, held_out, config, share_of_draws, done / config.steps)
                metrics.log(done, **score.metrics())
                progress.validated(score)
            if env is not None and (
                (config.rollout.freq and done % config.rollout.freq == 0) or done == config.steps
            ):
                success_during_training(metrics, done, env, averaged, config)
            if done % config.save_freq == 0 or done == config.steps:
                save_checkpoint(run, done, policy, average, optimizer, settings, config.keep_checkpoints)
    averaged.eval()
    error = chunk_error(averaged, held_out, limit=config.eval_chunks, seed=config.seed) if rank == 0 else None
    if metrics is not None:
        # A run may have been killed after its last checkpoint.
        if error is not None and not any("chunk_error" in line for line in read_metrics(run)):
            metrics.log(config.steps, **error.metrics())
        metrics.close()
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    if score is None and held_out.frames:
        score = evaluate(averaged, held_out, config)
    return TrainResult(averaged, score, error, time.monotonic() - started, run)


def check_output(run: Path, config: TrainConfig) -> Path | None:
    """Refuse to overwrite a run; return the checkpoint to resume from, if any."""
    if not run.exists():
        return None
    if not config.resume:
        allowed = "a new folder, or resume=true to continue the run in it"
        raise ConfigError("output_dir", str(run), allowed)
    saved, checkpoint = read_settings(run), last_checkpoint(run)
    if saved is not None:
        before, now = dotted(saved), dotted(as_json(to_plain(config)))
        for key in sorted(before.keys() | now.keys()):
            free = any(key == name or key.startswith(f"{name}.") for name in FREE_ON_RESUME)
            if not free and before.get(key) != now.get(key):
                raise ConfigError(f"resume with another {key}", now.get(key), f"{before.get(key)}, as before")
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    logged = max((line["step"] for line in read_metrics(run)), default=0)
    if checkpoint is None and logged > config.save_freq:
        # To start again would drop what was measured.
        given = Words(f"metrics up to step {logged} without a checkpoint")
        allowed = f"the checkpoint in {run / 'checkpoints'}, or a new output_dir to begin again"
        raise ConfigError(f"resume of {run}", given, allowed)
    return checkpoint


def check_data(run: Path, data: dict[str, Any]) -> None:
    """Refuse to go on with other data than the run in a folder began with; older runs hold counts alone.

    Raises:
        DatasetError: names what has changed.
        CheckpointError: the run's ``data.json`` is damaged.
    """
    path = run / DATA
    if not path.is_file():
        return
    declared = {"dataset": dict[str, Any] | None}
    saved = checked(declared, read_json(path, CheckpointError), path, CheckpointError)
    before = saved.get("dataset")
    if before is None:
        before = {
            "episodes": [saved.get("train_episodes"), saved.get("validation_episodes")],
            "frames": [saved.get("train_frames"), data["frames"][1]],
        }
        data = {name: data[name] for name in before}
    check_unchanged(before, data, f"the run in {run}")


def read_settings(run: Path) -> dict[str, Any] | None:
    """Return the settings a run was started with, or None before it has written any.

    What an earlier version left unsaid is in them, too. Where the run's own file is missing or empty, as after a disk
    was full, its last checkpoint has them.

    Raises:
        CheckpointError: they cannot be read.
    """
    last = last_checkpoint(run)
    for path in (run / TRAIN_CONFIG, *([] if last is None else [last / PRETRAINED / TRAIN_CONFIG])):
        if path.is_file() and path.stat().st_size:
            found = read_json(path, CheckpointError)
            found.pop(RECORDED_ENV, None)
            try:
                return as_json(completed(TrainConfig, found))
            except ConfigError as wrong:
                raise CheckpointError(f"{path}: {wrong}") from wrong
    return None


def as_json(plain: dict[str, Any]) -> dict[str, Any]:
    """Return settings as a JSON file gives them back, so that they compare."""
    found: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return found


def make_accelerator(device: str | None) -> Accelerator:
    """Make accelerate's handle; bf16 on CUDA, full precision elsewhere.

    Args:
        device: one of this machine's; the best one when None.

    Raises:
        ConfigError: accelerate was told to take another device, or several processes would share a GPU.
    """
    # A process that trains several times would otherwise keep the first run's precision and device.
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    kind, _, number = (device or devices()[0]).partition(":")
    if number:
        torch.cuda.set_device(int(number))  # accelerate takes the current one
    # The buffers are the tokenizer and the normalisation: the same everywhere and never changed.
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    precision = "bf16" if kind == "cuda" else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu", kwargs_handlers=[ddp])
    chosen = accelerator.device.type
    if device is not None and (chosen != kind or (number and accelerator.num_processes > 1)):
        raise ConfigError("device", device, f"null or {chosen}, as accelerate was launched")
    return accelerator


def open_run(
    run: Path,
    start: int,
    config: TrainConfig,
    policy: AnyOrderPolicy,
    train_chunks: ActionChunks,
    held_out: ActionChunks,
    fingerprint: dict[str, Any],
) -> Metrics:
    """Make the run's folder, write its settings and what it learns from, and open its metrics."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / TRAIN_CONFIG
    if not path.is_file() or not path.stat().st_size:
        write_json(path, to_plain(config))
    tokens = None
    if policy.tokenizer is not None:
        vectors = train_chunks.without_images().to(next(policy.parameters()).device)
        codes = policy.chunk(vectors.batch(torch.arange(0, vectors.frames, config.chunk_size)))
        tokens = int(policy.tokenizer.token_count(codes).sum())
    data = {
        "train_episodes": train_chunks.episodes,
        "validation_episodes": held_out.episodes,
        "train_frames": train_chunks.frames,
        "train_minutes": train_chunks.minutes,
        "train_action_tokens": tokens,
        "params": policy.trainable,
        "constant_dimensions": train_chunks.constant_dimensions,
        "dataset": fingerprint,
    }
    write_json(run / DATA, data)
    saved = read_settings(run)
    if saved is not None and saved["optimizer"] != as_json(to_plain(config.optimizer)):
        write_json(run / TRAIN_CONFIG, to_plain(config))
    return Metrics(run, start, config.wandb, to_plain(config))


def run_settings(config: TrainConfig, chunks: ActionChunks) -> dict[str, Any]:
    """Return the settings as saved in a checkpoint, with the environment the data came from, if known."""
    env = Origin.shared_env(chunks.roots)
    return {**to_plain(config), RECORDED_ENV: None if env is None else to_plain(env)}


def evaluate(
    policy: AnyOrderPolicy,
    held_out: ActionChunks,
    config: TrainConfig,
    share_of_draws: float = 1,
    progress: float = 1,
) -> Validation:
    """Score the averaged weights on the held-out episodes."""
    samples = max(1, round(config.eval_samples * share_of_draws))
    return validate(
        policy, held_out, samples=samples, limit=config.eval_chunks, seed=config.seed, progress=progress
    )


def epoch(done: int, config: TrainConfig, chunks: ActionChunks) -> float:
    """Return how many policy epochs (every frame once as a chunk's start) have been seen."""
    return done * config.batch_size / chunks.frames


def rollout_env(config: TrainConfig, chunks: ActionChunks) -> EnvConfig | None:
    """Return the environment for rollouts along the way; None when they are off."""
    if not config.rollout.episodes:
        return None
    if config.rollout.env is not None:
        return config.rollout.env
    env = Origin.shared_env(chunks.roots)
    if env is None:
        allowed = "an environment, as the dataset does not say where it was recorded"
        raise ConfigError("rollout.env", None, allowed)
    return env


def success_during_training(
    metrics: Metrics, step: int, env: EnvConfig, policy: AnyOrderPolicy, config: TrainConfig
) -> None:
    """Roll the averaged weights out and log the success rate with its interval."""
    policy.manual_seed(config.seed)
    result = rollout(env, policy, episodes=config.rollout.episodes, seed=config.rollout.seed, batch_size=64)
    low, high = result.interval
    metrics.log(step, success_rate=result.success_rate, success_low=low, success_high=high)
