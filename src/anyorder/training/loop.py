"""The training loop: the same for every factorization, on one device or many."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from anyorder.datasets.read.chunks import ActionChunks
from anyorder.datasets.read.fingerprint import fingerprint
from anyorder.datasets.write.origin import Origin
from anyorder.envs.base import EnvConfig
from anyorder.errors import ConfigError
from anyorder.files import write_json
from anyorder.folders import owned
from anyorder.policies import AnyOrderPolicy
from anyorder.rollouts.rollout import rollout
from anyorder.settings import to_plain
from anyorder.training.accelerator import make_accelerator
from anyorder.training.batches import StepBatches, batches_of
from anyorder.training.checkpoint import RECORDED_ENV, load_checkpoint, prune, save_checkpoint
from anyorder.training.chunk_error import ChunkError, chunk_error
from anyorder.training.config import TRAIN_CONFIG, TrainConfig
from anyorder.training.data import load_chunks
from anyorder.training.estimate import foretell
from anyorder.training.evaluate import Validation, validate
from anyorder.training.fresh import make_policy
from anyorder.training.learner import Learner
from anyorder.training.metrics import Metrics, read_metrics
from anyorder.training.optimizer import Schedule
from anyorder.training.order import batch_order
from anyorder.training.progress import StepClock, TrainingProgress, decoding, tell
from anyorder.training.resume import DATA, as_json, check_data, check_output, read_settings
from anyorder.training.watch import Watch

EARLY_DRAWS = 1 / 8
"""Part of ``eval_samples`` that validations before the last one draw."""


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
        raise ConfigError("batch_size", config.batch_size, f"a multiple of the {world} processes")

    torch.manual_seed(config.seed)
    policy = make_policy(config, train_chunks)
    policy.to(accelerator.device)
    learner = Learner.of(policy, Schedule(config.optimizer, config.steps, config.seed))
    start = load_checkpoint(checkpoint, learner) if checkpoint else 0
    learner.prepare(accelerator)
    averaged = learner.averaged
    held_out = held_out.to(accelerator.device)
    if train_chunks.cameras is None:
        train_chunks = train_chunks.to(accelerator.device)
    order = batch_order(train_chunks, config.batch_size, config.seed)
    env = rollout_env(config, train_chunks)
    settings = run_settings(config, train_chunks)
    metrics = open_run(run, start, config, policy, train_chunks, held_out, data) if rank == 0 else None
    share = config.batch_size // world

    validation: Validation | None = None
    scored = partial(validate, averaged, held_out, limit=config.eval_chunks, seed=config.seed)
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
            loss, norm = learner.advance(next(batches), step)
            clock.stop()
            watch.check(policy, averaged)
            done = step + 1
            if metrics is None:
                continue
            if done % config.log_freq == 0 or done == config.steps:
                seen = done * config.batch_size / train_chunks.frames  # policy epochs
                seconds = clock.means(batches.take_waited_s())
                metrics.log(done, train_loss=loss, grad_norm=norm, lr=learner.rate, epoch=seen, **seconds)
            progress.step(done, loss)
            if held_out.frames and (done % config.eval_freq == 0 or done == config.steps):
                # Along the way fewer draws do: what differs between episodes is the larger part of the error.
                draws = max(1, round(config.eval_samples * (1 if done == config.steps else EARLY_DRAWS)))
                validation = scored(samples=draws, progress=done / config.steps)
                metrics.log(done, **validation.metrics())
                progress.validated(validation)
            if env is not None and ((config.rollout.freq and done % config.rollout.freq == 0) or done == config.steps):
                success_during_training(metrics, done, env, averaged, config)
            if done % config.save_freq == 0 or done == config.steps:
                save_checkpoint(run, done, learner, settings, config.keep_checkpoints)
    averaged.eval()
    error: ChunkError | None = None
    if rank == 0:
        error = chunk_error(averaged, held_out, train=train_chunks, limit=config.eval_chunks, seed=config.seed)
    if metrics is not None:
        # A run may have been killed after its last checkpoint, or while it deleted an older one.
        prune(run, config.keep_checkpoints)
        if error is not None and not any("chunk_error" in line for line in read_metrics(run)):
            metrics.log(config.steps, **error.metrics())
        metrics.close()
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    if validation is None and held_out.frames:
        validation = scored(samples=config.eval_samples)
    return TrainResult(averaged, validation, error, time.monotonic() - started, run)


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
        codes = policy.codec.encode(vectors.batch(torch.arange(0, vectors.frames, config.chunk_size)))
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


def rollout_env(config: TrainConfig, chunks: ActionChunks) -> EnvConfig | None:
    """Return the environment for rollouts along the way; None when they are off."""
    if not config.rollout.episodes:
        return None
    if config.rollout.env is not None:
        return config.rollout.env
    env = Origin.shared_env(chunks.roots)
    if env is None:
        raise ConfigError("rollout.env", None, "an environment, as the dataset does not say where it was recorded")
    return env


def success_during_training(
    metrics: Metrics, step: int, env: EnvConfig, policy: AnyOrderPolicy, config: TrainConfig
) -> None:
    """Roll the averaged weights out and log the success rate with its interval."""
    policy.manual_seed(config.seed)
    result = rollout(env, policy, episodes=config.rollout.episodes, seed=config.rollout.seed, batch_size=64)
    low, high = result.interval
    metrics.log(step, success_rate=result.success_rate, success_low=low, success_high=high)
