"""``anyorder tokenize``: fit a tokenizer to a dataset and report what it costs and loses."""

from dataclasses import dataclass
from pathlib import Path

from lerobot.configs import NormalizationMode
from lerobot.utils.constants import ACTION
from rich.console import Console

from anyorder.errors import ConfigError, bad_value
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import DatasetConfig


@dataclass
class TokenizeConfig:
    """Settings; ``configs/tokenize.yaml`` explains them."""

    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    chunk_size: int = 16
    output: str | None = None

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise ConfigError(bad_value("chunk_size", self.chunk_size, "an integer >= 1"))
        if self.output is not None and Path(self.output).exists():
            raise ConfigError(bad_value("output", self.output, "a new file"))


def run(config: TokenizeConfig, console: Console) -> None:
    """Fit on the training episodes, measure on the held-out ones."""
    from anyorder.datasets.statistics import compute_statistics
    from anyorder.policies.normalizer import Normalizer
    from anyorder.tokenizers.report import tokenizer_report
    from anyorder.training.data import all_windows, load_chunks

    train, held_out = load_chunks(config.dataset, config.chunk_size)
    statistics = compute_statistics(train)[ACTION].as_lerobot()
    normalizer = Normalizer(len(train.action_names)).fit(statistics, NormalizationMode.MIN_MAX)
    with console.status("fitting the tokenizer"):
        tokenizer = config.tokenizer.fit(normalizer(all_windows(train)))
    report = tokenizer_report(
        tokenizer, normalizer(all_windows(held_out)), normalizer.inverse, train.action_names
    )
    console.print(
        f"{config.tokenizer.choice}, fitted to {train.episodes} episodes ({train.frames} chunks of "
        f"{config.chunk_size}), measured on {held_out.episodes} held-out episodes; errors in action units"
    )
    console.print(report)
    if config.output is not None:
        Path(config.output).write_text(report.to_markdown() + "\n")
