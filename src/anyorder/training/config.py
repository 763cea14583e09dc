"""Settings of a training run."""

from collections.abc import Mapping
from dataclasses import dataclass

from anyorder.datasets.read.cameras import check_cache_gb, check_image_size
from anyorder.datasets.read.episodes import check_fraction
from anyorder.datasets.read.images import TOLERANCE_S
from anyorder.devices import check_device
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, ConfigError
from anyorder.factorization import FactorizationConfig, check_sampling
from anyorder.factorization.families.autoregressive import AutoregressiveConfig
from anyorder.networks.policy_settings import PolicySettings
from anyorder.settings import Settings, join, part_of, setting
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.coefficients import DctConfig

TRAIN_CONFIG = "train_config.json"
"""File of a run's settings, in its folder and in each checkpoint."""

PARTS_OF_A_RUN = {"eval_freq": 10, "save_freq": 5}
"""Settings that are derived from ``steps`` where they are 0: what ``steps`` is divided by."""

MAX_WORKERS = 1_024

MAX_BATCH = 65_536
"""Largest batch: more chunks at a time fill the memory long before they teach anything."""


@dataclass
class DatasetSource(Settings):
    """One dataset, and which of its episodes."""

    root: str | None = setting(None, "Folder of a LeRobot dataset (v3).")
    repo_id: str | None = setting(None, "Its name on the hub, used when root is not given.")
    episodes: int | list[int] | None = setting(
        None, "Use that many episodes, a reproducible choice, or these: [3,5]; all when null.", least=1, most=MAX_COUNT
    )
    exclude_episodes: list[int] = setting([], "Episodes to leave out, by number, before any are chosen.")
    rename: dict[str, str] = setting(
        {},
        "Other names for features, by the dataset's own: dataset.rename='{actions: action, state: observation.state}'.",
    )

    def check_named(self, others: str, place: str = "") -> None:
        """Refuse a source that names no dataset.

        Args:
            others: what may be given in the place of ``root``, for messages.
            place: where the source is inside the whole, for messages.

        Raises:
            ConfigError: there is neither a folder nor a name on the hub.
        """
        if self.root is None and self.repo_id is None:
            raise ConfigError(join(place, "root"), None, f"a dataset folder (or {others})")


@dataclass
class MixEntry(DatasetSource):
    """One dataset of a mixture."""

    weight: float = setting(1.0, "Share of the samples, relative to the other datasets' weights.", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_named("repo_id")


@dataclass
class DatasetSettings(DatasetSource):
    """What runs and studies alike say of their data."""

    seed: int = setting(0, "Seed of the choice of episodes and of which are held out.", least=0, most=MAX_COUNT)
    observations: list[str] = setting(
        [],
        "Features to read; all low-dimensional ones when empty. A real arm has joints and cameras (which a study does "
        "not read), and no observation.environment_state: "
        "dataset.observations=[observation.state,observation.images.front].",
    )
    allow_short: bool = setting(False, "Accept episodes shorter than a chunk, padded by their last action.")


@dataclass
class DatasetConfig(DatasetSettings):
    """Which demonstrations to learn from."""

    validation_fraction: float = setting(0.1, "Share of the episodes held out, at least one; 0 holds none out.")
    image_size: list[int] | None = setting(
        None, "[height,width] that camera frames are scaled down to; as recorded when null."
    )
    cache_gb: float | None = setting(
        None, "GiB of memory for decoded frames; half of what is free when null, none when 0."
    )
    workers: int = setting(
        0,
        "Processes that decode frames which are not in memory; 0: a thread beside the training.",
        least=0,
        most=MAX_WORKERS,
    )
    mix: list[MixEntry] = setting(
        [],
        "Several datasets instead of root, drawn from in proportion to their weights: "
        "dataset.mix='[{root: data/a, weight: 1}, {root: data/b, weight: 3}]'.",
    )
    missing_cameras: bool = setting(False, "A dataset of the mixture may lack a camera that another has.")
    tolerance_s: float = setting(
        TOLERANCE_S, "How far a video's frame may be from its time stamp, in seconds.", above=0
    )
    ignore_names: bool = setting(
        False, "Dimensions may have other names in one dataset of a mixture than in another; they go by place."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_image_size(self.image_size)
        check_cache_gb(self.cache_gb)
        check_fraction(self.validation_fraction)
        for name in ("missing_cameras", "ignore_names"):
            if getattr(self, name) and not self.mix:
                raise ConfigError(name, True, "false, but with dataset.mix")
        if self.mix:
            for name, value in vars(part_of(DatasetSource, self)).items():
                if value not in (None, [], {}):
                    raise ConfigError(name, value, "null beside dataset.mix, whose entries have their own")
        else:
            self.check_named("dataset.repo_id, or dataset.mix")

    @property
    def entries(self) -> list[MixEntry]:
        """The datasets: those of the mixture, or the one."""
        if self.mix:
            return self.mix
        return [MixEntry(**vars(part_of(DatasetSource, self)))]


@dataclass
class OptimizerConfig(Settings):
    """AdamW with linear warm-up and a cosine to a tenth of the peak over the whole run."""

    lr: float = setting(
        3e-3,
        "Peak learning rate; this and grad_clip_norm may be lowered with resume=true, where training diverged.",
        above=0,
    )
    betas: tuple[float, float] = setting((0.9, 0.95), "AdamW's betas.", least=0, below=1)
    weight_decay: float = setting(0.1, "Weight decay, on weight matrices only.", least=0, most=1_000)
    warmup_fraction: float = setting(0.05, "Share of the steps spent warming up.", least=0, below=1)
    grad_clip_norm: float = setting(1.0, "Gradients are scaled down to this norm.", above=0)
    ema_decay: float = setting(
        0.99,
        "Decay of the averaged weights that are validated and saved; it ramps up from 0 early in the run.",
        least=0,
        below=1,
    )


@dataclass
class RolloutDuringTraining(Settings):
    """Success in simulation while training."""

    episodes: int = setting(0, "Rollouts each time; 0 turns them off.", least=0, most=MAX_COUNT)
    freq: int = setting(
        0, "Steps between them, with episodes > 0; 0: at the end of the run only.", least=0, most=MAX_COUNT
    )
    seed: int = setting(
        500_000, "Seed of the first episode, apart from those of a final evaluation.", least=0, most=MAX_COUNT
    )
    env: EnvConfig | None = setting(None, "The environment; the one the dataset was recorded in when null.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freq and not self.episodes:
            raise ConfigError("freq", self.freq, "0, but with rollout.episodes")


@dataclass
class WandbConfig(Settings):
    """Mirror of ``metrics.jsonl``."""

    enable: bool = setting(False, "Mirror metrics.jsonl in Weights & Biases.")
    project: str = setting("anyorder", "The project of the run.")
    mode: str = setting("offline", "How it is written.", among=("online", "offline", "disabled", "shared"))


@dataclass
class TrainConfig(PolicySettings):
    """A training run."""

    output_dir: str = setting("outputs/train", "Folder of the run; must not exist unless resume.")
    dataset: DatasetConfig = setting(meaning="What to learn from.")
    factorization: FactorizationConfig = setting(
        AutoregressiveConfig, "How the joint over the chunk is written; `--help` lists the factorizations."
    )
    tokenizer: TokenizerConfig = setting(
        DctConfig, "What makes tokens of actions, for factorizations of tokens; `--help` lists the tokenizers."
    )
    optimizer: OptimizerConfig = setting(
        OptimizerConfig, "AdamW, linear warm-up, cosine to a tenth; averaging of the weights."
    )
    steps: int = setting(3_000, "Optimizer steps.", least=1, most=MAX_COUNT)
    batch_size: int = setting(64, "Chunks a step, over all processes.", least=1, most=MAX_BATCH)
    log_freq: int = setting(20, "Steps between training losses in metrics.jsonl.", least=1, most=MAX_COUNT)
    eval_freq: int = setting(0, "Steps between validations; 0: a tenth of the run.", least=0, most=MAX_COUNT)
    eval_samples: int = setting(
        32,
        "Monte-Carlo draws per chunk, for bounds; an eighth of them before the last validation.",
        least=1,
        most=MAX_COUNT,
    )
    eval_chunks: int = setting(512, "Validation chunks scored at most, evenly spread.", least=1, most=MAX_COUNT)
    save_freq: int = setting(0, "Steps between checkpoints; 0: a fifth of the run.", least=0, most=MAX_COUNT)
    keep_checkpoints: int = setting(
        2, "How many checkpoints are kept; older ones are deleted.", least=1, most=MAX_COUNT
    )
    rollout: RolloutDuringTraining = setting(RolloutDuringTraining, "Success in simulation along the way.")
    wandb: WandbConfig = setting(WandbConfig, "Tracking in Weights & Biases.")
    seed: int = setting(0, "Seed of initialization, data order and losses.", least=0, most=MAX_COUNT)
    device: str | None = setting(None, "cpu, cuda, cuda:1 or mps; the best device of this machine when null.")
    resume: bool = setting(False, "Continue the run in output_dir, or start it if there is no checkpoint yet.")
    progress: bool = setting(True, "Show a progress bar.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.temperature, self.nucleus, self.guidance, self.factorization)
        check_device(self.device)
        for name, parts in PARTS_OF_A_RUN.items():
            setattr(self, name, getattr(self, name) or max(1, self.steps // parts))
        self.factorization.build().check_repeats(self.repeats)

    def check_given(self, given: Mapping[str, str]) -> None:
        """Refuse what was given and has no effect with the factorization; see ``PolicySettings.check_idle``."""
        self.check_idle(given, self.factorization)
