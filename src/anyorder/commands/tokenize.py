"""``anyorder tokenize``: fit a tokenizer to a dataset and report what it costs and loses."""

from dataclasses import dataclass
from pathlib import Path

from lerobot.utils.constants import ACTION
from rich.console import Console

from anyorder.errors import ConfigError, bad_value
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import DatasetConfig, TrainConfig


@dataclass
class TokenizeConfig:
    """Settings; ``configs/tokenize.yaml`` explains them."""

    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    chunk_size: int = 6
    relative_actions: bool = False
    output: str | None = None

    def __post_init__(self) -> None:
        if self.chunk_size < 1:
            raise ConfigError(bad_value("chunk_size", self.chunk_size, "an integer >= 1"))
        if self.output is not None and Path(self.output).exists():
            raise ConfigError(bad_value("output", self.output, "a new file"))


def run(config: TokenizeConfig, console: Console) -> None:
    """Fit on the training episodes, measure on the held-out ones."""
    import torch

    from anyorder.tokenizers.report import tokenizer_report
    from anyorder.training.data import load_chunks, make_policy

    train, held_out = load_chunks(config.dataset, config.chunk_size)
    settings = TrainConfig(
        dataset=config.dataset,
        tokenizer=config.tokenizer,
        chunk_size=config.chunk_size,
        n_action_steps=config.chunk_size,
        relative_actions=config.relative_actions,
        device="cpu",
    )
    with console.status("fitting the tokenizer"):
        # A policy fits its tokenizer to what it would train on; its network is not used here.
        policy = make_policy(settings, train)
    assert policy.tokenizer is not None
    chunks = policy.normalised(held_out.batch(torch.arange(held_out.frames)))
    report = tokenizer_report(policy.tokenizer, chunks, policy.normalizer(ACTION).inverse, train.action_names)
    console.print(
        f"{config.tokenizer.choice}, fitted to {train.episodes} episodes ({train.frames} chunks of "
        f"{config.chunk_size}), measured on {held_out.episodes} held-out episodes; errors in action units"
    )
    console.print(report)
    if config.output is not None:
        Path(config.output).write_text(report.to_markdown() + "\n")
