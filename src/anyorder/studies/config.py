"""What a study is: variants over sizes, unique tokens, epochs, regularization and seeds, on one dataset."""

from dataclasses import dataclass, field

from anyorder.errors import MAX_COUNT, ConfigError, check_number
from anyorder.factorization import FactorizationConfig, check_sampling
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.networks.transformer import MAX_SIZE
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import OptimizerConfig

HELD_OUT = 2
"""At least this many episodes validate, and as many test: their spread is the standard error."""
LEAST_EPISODES = 3 * HELD_OUT
"""A study needs at least this many episodes."""
WEIGHTS = ("final", "best", "none")


def check_episodes(count: int) -> None:
    """Refuse a dataset of too few episodes to hold any out.

    Raises:
        ConfigError: fewer than ``LEAST_EPISODES``.
    """
    if count < LEAST_EPISODES:
        allowed = f"at least {LEAST_EPISODES}, as {HELD_OUT} choose and {HELD_OUT} report"
        raise ConfigError("episodes of dataset", count, allowed)


@dataclass
class StudyDataset:
    """Which demonstrations, and which of them are held out: the same episodes whatever a run learns from.

    Attributes:
        root: folder of a LeRobot dataset (v3).
        repo_id: its name on the hub, used when ``root`` is not given.
        episodes: use so many episodes, a reproducible choice, or a list of which; all when null.
        seed: of that choice and of what is held out.
        validation_fraction: share of the episodes that choose the best moment of a run.
        test_fraction: share of the episodes whose losses are reported.
        observations: features the models read, numbers only; all low-dimensional ones when empty.
        allow_short: accept episodes shorter than a chunk.
        exclude_episodes: episodes to leave out, by number.
        rename: other names for features, by the dataset's own.
    """

    root: str | None = None
    repo_id: str | None = None
    episodes: int | list[int] | None = None
    seed: int = 0
    validation_fraction: float = 0.05
    test_fraction: float = 0.05
    observations: list[str] = field(default_factory=list)
    allow_short: bool = False
    exclude_episodes: list[int] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_number("dataset.seed", self.seed, 0, MAX_COUNT, whole=True)
        if self.episodes is not None:
            check_number("dataset.episodes", self.episodes, 1, MAX_COUNT, whole=True)
        for name in ("validation_fraction", "test_fraction"):
            if not 0 < getattr(self, name) < 0.5:
                raise ConfigError(f"dataset.{name}", getattr(self, name), "a number in (0, 0.5)")


@dataclass
class SizeConfig:
    """How a model follows from its width, the one dial.

    Depth is ``width / width_per_block`` blocks, rounded, at least one; heads are ``width / head_width``; the
    observation encoder is ``encoder_hidden * width`` wide. The learning rate falls as one over the width: at width
    ``lr_width`` it is ``optimizer.lr``.

    >>> SizeConfig().network(64), SizeConfig().encoder(64).hidden
    (TransformerConfig(width=64, depth=2, heads=4, dropout=0.0, attention_dropout=0.0), 128)
    """

    head_width: int = 16
    width_per_block: int = 32
    encoder_hidden: int = 2
    encoder_depth: int = 2
    encoder_tokens: int = 4
    lr_width: int = 64

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            check_number(f"size.{name}", value, 1, MAX_SIZE, whole=True)

    def network(self, width: int, dropout: float = 0.0, attention_dropout: float = 0.0) -> TransformerConfig:
        """Return the trunk of a width."""
        if width < 1 or width % self.head_width:
            raise ConfigError("width", width, f"a multiple of size.head_width = {self.head_width}")
        depth = max(1, round(width / self.width_per_block))
        return TransformerConfig(width, depth, width // self.head_width, dropout, attention_dropout)

    def learning_rate(self, lr: float, width: int) -> float:
        """Return the peak learning rate of a width.

        >>> SizeConfig().learning_rate(0.003, width=128)
        0.0015
        """
        return lr * self.lr_width / width

    def encoder(self, width: int) -> EncoderConfig:
        """Return the observation encoder of a width."""
        return EncoderConfig(self.encoder_tokens, self.encoder_hidden * width, self.encoder_depth)


@dataclass
class GridConfig:
    """Runs that cross with each other: every combination of what is listed.

    Attributes:
        families: names out of the study's ``families``.
        width: of the models, see ``SizeConfig``.
        unique_tokens: action tokens to learn from, rounded to whole frames.
        epochs: token epochs: how often each of them is predicted.
        weight_decay: the study's ``optimizer.weight_decay`` when empty.
        dropout: of the trunk.
        attention_dropout: of its attention weights.
        token_masking: share of sequences that lose a random part of their past; autoregressive families only.
        seed: of initialisation, batches, and of which demonstrations make up the unique tokens.
        max_flops: combinations of more than this 6 N D are left out.
    """

    families: list[str] = field(default_factory=list)
    width: list[int] = field(default_factory=list)
    unique_tokens: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    weight_decay: list[float] = field(default_factory=list)
    dropout: list[float] = field(default_factory=lambda: [0.0])
    attention_dropout: list[float] = field(default_factory=lambda: [0.0])
    token_masking: list[float] = field(default_factory=lambda: [0.0])
    seed: list[int] = field(default_factory=lambda: [0])
    max_flops: float | None = None

    def check(self, name: str) -> None:
        """Raise a ``ConfigError`` for an axis that is empty or holds impossible values."""
        for axis, values in vars(self).items():
            if isinstance(values, list) and not values and axis != "weight_decay":
                raise ConfigError(f"grids.{name}.{axis}", values, "at least one value")
        ranges = {"width": (1, MAX_SIZE), "epochs": (1, MAX_COUNT), "seed": (0, MAX_COUNT)}
        for axis, (least, most) in {**ranges, "unique_tokens": (1, 10**15)}.items():
            for value in getattr(self, axis):
                check_number(f"grids.{name}.{axis}", value, least, most, whole=True)
        for axis in ("dropout", "attention_dropout", "token_masking"):
            for value in getattr(self, axis):
                check_number(f"grids.{name}.{axis}", value, 0, 1, below=axis != "token_masking")
        for value in self.weight_decay:
            check_number(f"grids.{name}.weight_decay", value, 0)
        if self.max_flops is not None:
            check_number(f"grids.{name}.max_flops", self.max_flops, 0, above=True)


@dataclass
class EvaluationConfig:
    """How runs are scored.

    Attributes:
        ratio: validations along a run come at epochs 1, ratio, ratio^2, ..., rounded, and at its end.
        chunks: validation chunks scored at most, evenly spread over the held-out episodes.
        test_chunks: test chunks likewise.
        draws: Monte-Carlo draws per validation chunk, of families with a bound; the same draws for every run.
        test_draws: per test chunk likewise.
    """

    ratio: float = 1.5
    chunks: int = 256
    test_chunks: int = 256
    draws: int = 4
    test_draws: int = 8

    def __post_init__(self) -> None:
        # Closer to 1 the moments would never come to the end.
        check_number("evaluation.ratio", self.ratio, 1.001, MAX_COUNT)
        for name in ("chunks", "test_chunks", "draws", "test_draws"):
            check_number(f"evaluation.{name}", getattr(self, name), 1, MAX_COUNT, whole=True)

    def epochs(self, last: int) -> list[int]:
        """Return the epochs after which a run of ``last`` epochs is validated.

        >>> EvaluationConfig(ratio=2.0).epochs(10)
        [1, 2, 4, 8, 10]
        """
        found, at = {last}, 1.0
        while at < last:
            found.add(round(at))
            at *= self.ratio
        return sorted(found)


@dataclass
class SuccessConfig:
    """Success in simulation of some runs; needs a dataset that ``anyorder record`` made, and kept weights.

    Attributes:
        runs: how many, evenly spread over the runs' test NLL; 0 turns it off.
        episodes: rollouts of each.
        seed: of the first episode.
        n_action_steps: actions executed before the next prediction; the whole chunk but one when 0.
        temperature: of sampling tokens.
    """

    runs: int = 0
    episodes: int = 50
    seed: int = 1_000_000
    n_action_steps: int = 0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("runs", 0), ("episodes", 1), ("n_action_steps", 0), ("seed", 0)):
            check_number(f"success.{name}", getattr(self, name), least, MAX_COUNT, whole=True)
        check_sampling(self.temperature)


@dataclass
class StudyConfig:
    """A study; ``configs/study.yaml`` explains it.

    Attributes:
        families: variants, a family with its settings each, by the name they have in tables.
        grids: what to cross, by name.
        batch_scale: tokens in a batch = this times the square root of the tokens a run sees, so that steps and batch
            grow alike.
        max_batch_size: chunks in a batch at most.
        keep_weights: of each run: ``final``, ``best`` or ``none``.
    """

    dataset: StudyDataset = field(default_factory=StudyDataset)
    chunk_size: int = 8
    tokenizer: TokenizerConfig = field(default_factory=lambda: TokenizerConfig.from_options("dct", {}))
    families: dict[str, FactorizationConfig] = field(default_factory=dict)
    grids: dict[str, GridConfig] = field(default_factory=dict)
    size: SizeConfig = field(default_factory=SizeConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch_scale: float = 0.5
    max_batch_size: int = 256
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    success: SuccessConfig = field(default_factory=SuccessConfig)
    keep_weights: str = "final"

    def __post_init__(self) -> None:
        for name in ("chunk_size", "max_batch_size"):
            check_number(name, getattr(self, name), 1, MAX_SIZE, whole=True)
        check_number("batch_scale", self.batch_scale, 0, 1e6, above=True)
        if self.keep_weights not in WEIGHTS:
            raise ConfigError("keep_weights", self.keep_weights, ", ".join(WEIGHTS))
        if self.success.runs and self.keep_weights == "none":
            raise ConfigError("keep_weights", "none", "final or best, as success.runs > 0")

    def batch_size(self, tokens: float, length: int) -> int:
        """Return the chunks of a batch for a run that sees ``tokens``, of codes of ``length`` tokens.

        >>> StudyConfig().batch_size(1_000_000, length=32)
        16
        """
        return min(self.max_batch_size, max(1, round(self.batch_scale * tokens**0.5 / length)))
