"""Settings of a training run."""

import math
from dataclasses import dataclass, field

from anyorder.datasets.read.cameras import check_cache_gb, check_image_size
from anyorder.datasets.read.episodes import check_fraction
from anyorder.datasets.read.images import TOLERANCE_S
from anyorder.devices import check_device
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, ConfigError, check_number
from anyorder.factorization import FactorizationConfig, check_sampling
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.networks.transformer import MAX_SIZE
from anyorder.tokenizers import TokenizerConfig

TRAIN_CONFIG = "train_config.json"
"""File of a run's settings, in its folder and in each checkpoint."""

MAX_WORKERS = 1_024

MAX_BATCH = 65_536
"""Largest batch: more chunks at a time fill the memory long before they teach anything."""

WANDB_MODES = ("online", "offline", "disabled", "shared")


@dataclass
class MixEntry:
    """One dataset of a mixture.

    Attributes:
        root: folder of a LeRobot dataset (v3).
        repo_id: its name on the hub, used when ``root`` is not given.
        weight: share of the samples, relative to the other datasets' weights.
        episodes: how many episodes to use, or a list of which; all when null.
        exclude_episodes: episodes to leave out, by number.
        rename: other names for its features, by the dataset's own.
    """

    root: str | None = None
    repo_id: str | None = None
    weight: float = 1.0
    episodes: int | list[int] | None = None
    exclude_episodes: list[int] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.root is None and self.repo_id is None:
            raise ConfigError("dataset.mix root", None, "a dataset folder (or repo_id) in every entry")
        if not 0 < self.weight < math.inf:
            raise ConfigError("dataset.mix weight", self.weight, "a number > 0")


@dataclass
class DatasetConfig:
    """Which demonstrations to learn from.

    Attributes:
        root: folder of a LeRobot dataset (v3).
        repo_id: its name on the hub, used when ``root`` is not given.
        episodes: how many episodes to use, a reproducible choice, or a list of which; all when null.
        seed: of that choice and of the split.
        validation_fraction: share of the episodes held out, at least one; 0 holds none out.
        observations: features the policy reads, cameras by name among them; all low-dimensional ones when empty. A
            real arm has no ``observation.environment_state``.
        allow_short: accept episodes shorter than a chunk, padded by their last action.
        image_size: (height, width) that camera frames are scaled down to; as recorded when null.
        workers: processes that decode camera frames which are not in memory; 0 for a thread beside the training.
        mix: several datasets instead of ``root``; a sample is from one of them with probability in proportion to its
            weight.
        missing_cameras: a dataset of the mixture may lack a camera that another has.
        cache_gb: GiB of memory for decoded frames; half of what is free when null, none when 0.
        exclude_episodes: episodes to leave out, by number, before any are chosen.
        rename: other names for features, by the dataset's own.
        tolerance_s: how far a video's frame may be from its time stamp.
        ignore_names: dimensions may have other names in one dataset of the mixture than in another; their places then
            tell which is which.
    """

    root: str | None = None
    repo_id: str | None = None
    episodes: int | list[int] | None = None
    seed: int = 0
    validation_fraction: float = 0.1
    observations: list[str] = field(default_factory=list)
    allow_short: bool = False
    image_size: list[int] | None = None
    cache_gb: float | None = None
    workers: int = 0
    mix: list[MixEntry] = field(default_factory=list)
    missing_cameras: bool = False
    exclude_episodes: list[int] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    tolerance_s: float = TOLERANCE_S
    ignore_names: bool = False

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        for name in ("missing_cameras", "ignore_names"):
            if getattr(self, name) and not self.mix:
                raise ConfigError(f"dataset.{name}", True, "false, but with dataset.mix")
        check_cache_gb(self.cache_gb)
        check_number("dataset.workers", self.workers, 0, MAX_WORKERS, whole=True)
        check_number("dataset.seed", self.seed, 0, MAX_COUNT, whole=True)
        check_number("dataset.tolerance_s", self.tolerance_s, 0, above=True)
        check_fraction(self.validation_fraction)
        if isinstance(self.episodes, int):
            check_number("dataset.episodes", self.episodes, 1, MAX_COUNT, whole=True)
        if self.mix:
            for name in ("root", "repo_id", "episodes", "exclude_episodes", "rename"):
                if getattr(self, name) not in (None, [], {}):
                    allowed = "null beside dataset.mix, whose entries have their own"
                    raise ConfigError(f"dataset.{name}", getattr(self, name), allowed)
        elif self.root is None and self.repo_id is None:
            allowed = "a dataset folder (or dataset.repo_id, or dataset.mix)"
            raise ConfigError("dataset.root", None, allowed)

    @property
    def entries(self) -> list[MixEntry]:
        """The datasets: those of the mixture, or the one."""
        if self.mix:
            return self.mix
        return [MixEntry(self.root, self.repo_id, 1.0, self.episodes, self.exclude_episodes, self.rename)]


@dataclass
class OptimizerConfig:
    """AdamW with linear warm-up and a cosine to a tenth of the peak over the whole run.

    Attributes:
        lr: peak learning rate.
        betas: AdamW's betas.
        weight_decay: on weight matrices only.
        warmup_fraction: share of the steps spent warming up.
        grad_clip_norm: gradients are scaled down to this norm.
        ema_decay: of the averaged weights that are validated and saved; ramps up from 0 early in the run.
    """

    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    warmup_fraction: float = 0.05
    grad_clip_norm: float = 1.0
    ema_decay: float = 0.99

    def __post_init__(self) -> None:
        for name in ("lr", "grad_clip_norm"):
            check_number(f"optimizer.{name}", getattr(self, name), 0, above=True)
        check_number("optimizer.weight_decay", self.weight_decay, 0, 1_000)
        for name in ("warmup_fraction", "ema_decay"):
            check_number(f"optimizer.{name}", getattr(self, name), 0, 1, below=True)
        for beta in self.betas:
            check_number("optimizer.betas", beta, 0, 1, below=True)


@dataclass
class RolloutDuringTraining:
    """Success in simulation while training; ``episodes`` = 0 turns it off.

    Attributes:
        episodes: rollouts each time.
        freq: steps between them; 0 for the end of the run only.
        seed: of the first episode, apart from those that a final evaluation should use.
        env: the environment; the one the dataset was recorded in when null.
    """

    episodes: int = 0
    freq: int = 0
    seed: int = 500_000
    env: EnvConfig | None = None

    def __post_init__(self) -> None:
        for name in ("episodes", "freq", "seed"):
            check_number(f"rollout.{name}", getattr(self, name), 0, MAX_COUNT, whole=True)
        if self.freq and not self.episodes:
            raise ConfigError("rollout.freq", self.freq, "0, but with rollout.episodes")


@dataclass
class WandbConfig:
    """Mirror of ``metrics.jsonl``; ``mode`` is offline unless asked."""

    enable: bool = False
    project: str = "anyorder"
    mode: str = "offline"

    def __post_init__(self) -> None:
        if self.mode not in WANDB_MODES:
            raise ConfigError("wandb.mode", self.mode, ", ".join(WANDB_MODES))


@dataclass
class TrainConfig:
    """A training run.

    Attributes:
        output_dir: folder of the run; must not exist unless ``resume``.
        dataset: what to learn from.
        factorization: how the joint over the chunk is written.
        tokenizer: of the token families.
        network: the trunk.
        encoder: the observation encoder.
        optimizer: AdamW, schedule and averaging.
        chunk_size: time steps in a chunk.
        n_action_steps: executed before the next prediction.
        n_obs_steps: moments observed at once, the present one included.
        relative_actions: predict targets relative to the current state. The likelihood is better so, closed-loop
            success worse: errors then add up from chunk to chunk.
        observation_noise: standard deviation of noise on the normalised observations in training.
        context_dropout: share of training samples whose observation is hidden; guidance needs it.
        temperature: of sampling tokens, 1 = the model, 0 = most likely.
        nucleus: only the most likely tokens that together have this probability are drawn.
        guidance: classifier-free guidance on the observation; 1 is off.
        steps: optimiser steps.
        batch_size: chunks per step, over all processes.
        log_freq: steps between training losses in ``metrics.jsonl``.
        eval_freq: steps between validations; 0 for a tenth of the run.
        eval_samples: Monte-Carlo draws per chunk for bounds, at the end of the run; an eighth of them before.
        eval_chunks: validation chunks scored at most, evenly spread over the held-out episodes.
        save_freq: steps between checkpoints; 0 for a fifth of the run.
        keep_checkpoints: older ones are deleted.
        rollout: success in simulation along the way.
        wandb: tracking.
        seed: of initialisation, data order and losses.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; the best of this machine when null.
        resume: continue the run in ``output_dir``, or start it if there is no checkpoint yet.
        progress: show a progress bar.
    """

    output_dir: str = "outputs/train"
    dataset: DatasetConfig = field(default_factory=lambda: DatasetConfig(root=""))
    factorization: FactorizationConfig = field(
        default_factory=lambda: FactorizationConfig.from_options("autoregressive", {})
    )
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig.from_options("fast", {}))
    network: TransformerConfig = field(default_factory=TransformerConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    chunk_size: int = 6
    n_action_steps: int = 5
    n_obs_steps: int = 1
    relative_actions: bool = False
    observation_noise: float = 0.0
    context_dropout: float = 0.0
    temperature: float = 0.0
    nucleus: float = 1.0
    guidance: float = 1.0
    steps: int = 3_000
    batch_size: int = 64
    log_freq: int = 20
    eval_freq: int = 0
    eval_samples: int = 32
    eval_chunks: int = 512
    save_freq: int = 0
    keep_checkpoints: int = 2
    rollout: RolloutDuringTraining = field(default_factory=RolloutDuringTraining)
    wandb: WandbConfig = field(default_factory=WandbConfig)
    seed: int = 0
    device: str | None = None
    resume: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("chunk_size", "n_action_steps", "n_obs_steps"):
            check_number(name, getattr(self, name), 1, MAX_SIZE, whole=True)
        check_number("seed", self.seed, 0, MAX_COUNT, whole=True)
        check_number("observation_noise", self.observation_noise, 0, 1_000)
        check_number("context_dropout", self.context_dropout, 0, 1, below=True)
        check_sampling(self.temperature, self.nucleus, self.guidance, self.factorization)
        check_device(self.device)
        check_number("batch_size", self.batch_size, 1, MAX_BATCH, whole=True)
        for name in (
            "steps",
            "log_freq",
            "eval_samples",
            "eval_chunks",
            "keep_checkpoints",
        ):
            check_number(name, getattr(self, name), 1, MAX_COUNT, whole=True)
        for name in ("eval_freq", "save_freq"):
            check_number(name, getattr(self, name), 0, MAX_COUNT, whole=True)
        self.eval_freq = self.eval_freq or max(1, self.steps // 10)
        self.save_freq = self.save_freq or max(1, self.steps // 5)
        self.factorization.build()
