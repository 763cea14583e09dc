"""What a study is: variants over sizes, unique tokens, epochs, regularization and seeds, on one dataset."""

from dataclasses import dataclass, replace

from anyorder.errors import MAX_COUNT, ConfigError
from anyorder.factorization import FactorizationConfig, check_sampling
from anyorder.networks import EncoderConfig, HeadConfig, TransformerConfig
from anyorder.networks.transformer import MAX_SIZE
from anyorder.settings import Settings, setting
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.coefficients import DctConfig
from anyorder.training.config import DatasetSettings, OptimizerConfig

LEAST_HELD_OUT = 2
"""At least this many episodes validate, and as many test: their spread is the standard error."""
LEAST_EPISODES = 3 * LEAST_HELD_OUT
"""A study needs at least this many episodes."""
WEIGHTS = ("final", "best", "none")


def check_episodes(count: int) -> None:
    """Refuse a dataset of too few episodes to hold any out.

    Raises:
        ConfigError: fewer than ``LEAST_EPISODES``.
    """
    if count < LEAST_EPISODES:
        allowed = f"at least {LEAST_EPISODES}, as {LEAST_HELD_OUT} choose and {LEAST_HELD_OUT} report"
        raise ConfigError("episodes of dataset", count, allowed)


@dataclass
class StudyDataset(DatasetSettings):
    """Which demonstrations, and who is held out: the same episodes whatever a run learns from."""

    validation_fraction: float = setting(
        0.05, "Share of the episodes that choose the best moment of a run.", above=0, below=0.5
    )
    test_fraction: float = setting(0.05, "Share of the episodes that report.", above=0, below=0.5)


@dataclass
class SizeConfig(Settings):
    """How a model follows from its width, the one dial.

    Depth is ``width / width_per_block`` blocks, rounded, at least one; heads are ``width / head_width``; the
    observation encoder is ``encoder_hidden * width`` wide. The learning rate falls as one over the width: at width
    ``lr_width`` it is ``optimizer.lr``.

    >>> SizeConfig().network(64), SizeConfig().encoder(64).hidden
    (TransformerConfig(width=64, depth=2, heads=4, dropout=0.0, attention_dropout=0.0), 128)
    """

    head_width: int = setting(16, "Heads = width / head_width.", least=1, most=MAX_SIZE)
    width_per_block: int = setting(
        32, "Blocks = width / width_per_block, rounded, at least one.", least=1, most=MAX_SIZE
    )
    encoder_hidden: int = setting(2, "Width of the observation encoder's MLP, in widths.", least=1, most=MAX_SIZE)
    encoder_depth: int = setting(2, "Its hidden layers.", least=1, most=MAX_SIZE)
    encoder_tokens: int = setting(4, "Context tokens made from the observation.", least=1, most=MAX_SIZE)
    lr_width: int = setting(
        64, "The width whose learning rate is optimizer.lr; it falls as one over the width.", least=1, most=MAX_SIZE
    )

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
class GridConfig(Settings):
    """Runs that cross with each other: every combination of what is listed."""

    families: list[str] = setting([], "Names out of the study's families.")
    width: list[int] = setting([], "Widths of the models, see size.", least=1, most=MAX_SIZE)
    unique_tokens: list[int] = setting(
        [], "Action tokens to learn from, rounded to whole frames.", least=1, most=10**15
    )
    epochs: list[int] = setting([], "Token epochs: how often each of them is predicted.", least=1, most=MAX_COUNT)
    weight_decay: list[float] = setting([], "Weight decay; the study's optimizer.weight_decay when empty.", least=0)
    dropout: list[float] = setting([0.0], "Dropout of the trunk.", least=0, below=1)
    attention_dropout: list[float] = setting([0.0], "Dropout of its attention weights.", least=0, below=1)
    token_masking: list[float] = setting(
        [0.0],
        "Share of sequences that lose a random part of their past; autoregressive families only.",
        least=0,
        most=1,
    )
    seed: list[int] = setting(
        [0],
        "Seeds of initialization, batches, and of which demonstrations make up the unique tokens.",
        least=0,
        most=MAX_COUNT,
    )
    max_flops: float | None = setting(None, "Combinations of more than this 6 N D are left out.", least=0)

    def check(self, name: str) -> None:
        """Raise a ``ConfigError`` for an axis that is empty."""
        for axis, values in vars(self).items():
            if isinstance(values, list) and not values and axis != "weight_decay":
                raise ConfigError(f"grids.{name}.{axis}", values, "at least one value")


@dataclass
class EvaluationConfig(Settings):
    """How runs are scored."""

    # Closer to 1 the moments would never come to the end.
    ratio: float = setting(
        1.5, "Validate after epochs 1, ratio, ratio^2, ..., rounded, and at the end.", least=1.001, most=MAX_COUNT
    )
    chunks: int = setting(
        256, "Validation chunks scored at most, evenly spread over the held-out episodes.", least=1, most=MAX_COUNT
    )
    test_chunks: int = setting(256, "Test chunks likewise.", least=1, most=MAX_COUNT)
    draws: int = setting(
        4,
        "Monte-Carlo draws a validation chunk, of families with a bound; the same draws for every run.",
        least=1,
        most=MAX_COUNT,
    )
    test_draws: int = setting(8, "Draws a test chunk likewise.", least=1, most=MAX_COUNT)

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
class SuccessConfig(Settings):
    """Success in simulation of some runs; needs a dataset that ``anyorder record`` made, and kept weights."""

    runs: int = setting(0, "That many runs, evenly spread over the test NLL; 0 turns it off.", least=0, most=MAX_COUNT)
    episodes: int = setting(50, "Rollouts of each.", least=1, most=MAX_COUNT)
    seed: int = setting(1_000_000, "Seed of the first episode.", least=0, most=MAX_COUNT)
    n_action_steps: int = setting(
        0, "Actions executed before the next prediction; all of the chunk but one when 0.", least=0, most=MAX_COUNT
    )
    temperature: float = setting(0.0, "Temperature of sampling tokens.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.temperature)


@dataclass
class StudyConfig(Settings):
    """A study."""

    dataset: StudyDataset = setting(StudyDataset, "What to learn from, and which episodes are held out.")
    chunk_size: int = setting(8, "Time steps in a chunk.", least=1, most=MAX_SIZE)
    tokenizer: TokenizerConfig = setting(DctConfig, "One whose codes have a fixed length; all families share it.")
    families: dict[str, FactorizationConfig] = setting(
        {}, "Factorizations by the name they have in tables: NAME: {type: FACTORIZATION, its settings ...}."
    )
    grids: dict[str, GridConfig] = setting(
        {},
        "What to cross, by name: NAME: {families, width, unique_tokens, epochs, weight_decay, dropout, "
        "attention_dropout, token_masking, seed, max_flops}: lists, but for the last.",
    )
    head: HeadConfig = setting(
        HeadConfig,
        "How features become a distribution over tokens, in every run; expected_l1 is 0 unless given, as runs are "
        "compared by likelihood.",
        before={"distribution": "categorical"},
    )
    size: SizeConfig = setting(SizeConfig, "How a model follows from its width.")
    optimizer: OptimizerConfig = setting(OptimizerConfig, "As of `anyorder train`; lr is at width size.lr_width.")
    batch_scale: float = setting(
        0.5,
        "Tokens in a batch = this times the square root of the tokens a run sees, so that steps and batch grow alike.",
        above=0,
        most=1e6,
    )
    max_batch_size: int = setting(256, "Chunks in a batch at most.", least=1, most=MAX_SIZE)
    evaluation: EvaluationConfig = setting(EvaluationConfig, "How runs are scored.")
    success: SuccessConfig = setting(
        SuccessConfig, "Success in simulation, where the dataset was recorded by `anyorder record`."
    )
    keep_weights: str = setting("final", "Which weights of each run are kept: final, best or none.", among=WEIGHTS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head.expected_l1 is None:
            self.head = replace(self.head, expected_l1=0.0)
        if self.success.runs and self.keep_weights == "none":
            raise ConfigError("keep_weights", "none", "final or best, as success.runs > 0")

    def batch_size(self, tokens: float, length: int) -> int:
        """Return the chunks of a batch for a run that sees ``tokens``, of codes of ``length`` tokens.

        >>> StudyConfig().batch_size(1_000_000, length=32)
        16
        """
        return min(self.max_batch_size, max(1, round(self.batch_scale * tokens**0.5 / length)))
