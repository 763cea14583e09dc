"""``anyorder tokenize``: fit a tokenizer to a dataset and report what it costs and loses."""

from dataclasses import dataclass, replace
from pathlib import Path

from lerobot.utils.constants import ACTION
from rich.console import Console

from anyorder.commands.progress import counting
from anyorder.errors import MAX_COUNT, ConfigError, bad_value, check_number
from anyorder.tokenizers import TokenizerConfig
from anyorder.training.config import DatasetConfig, TrainConfig

FORMATS = (".html", ".md")


@dataclass
class TokenizeConfig:
    """Settings; ``configs/tokenize.yaml`` explains them."""

    dataset: DatasetConfig
    tokenizer: TokenizerConfig
    chunk_size: int = 6
    relative_actions: bool = False
    curve: bool = False
    output: str | None = None

    def __post_init__(self) -> None:
        check_number("chunk_size", self.chunk_size, 1, MAX_COUNT, whole=True)
        if self.output is not None:
            path = Path(self.output)
            if path.exists() or path.suffix not in FORMATS:
                allowed = f"a new file whose name ends in {' or '.join(FORMATS)}"
                raise ConfigError(bad_value("output", self.output, allowed))


def run(config: TokenizeConfig, console: Console) -> None:
    """Fit on the training episodes, measure on the held-out ones."""
    import torch

    from anyorder.files import write_whole
    from anyorder.reports.tokenizers import tokenizer_page
    from anyorder.tokenizers.rate_distortion import all_sweeps, rate_distortion
    from anyorder.tokenizers.report import tokenizer_report
    from anyorder.training.data import load_chunks, make_policy

    # Cameras say nothing about actions.
    dataset = replace(config.dataset, observations=[])
    train, held_out = load_chunks(dataset, config.chunk_size)
    settings = TrainConfig(
        dataset=dataset,
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
    unnormalise = policy.normalizer(ACTION).inverse
    report = tokenizer_report(policy.tokenizer, chunks, unnormalise, train.action_names)
    subtitle = (
        f"{config.tokenizer.choice}, fitted to {train.episodes} episodes ({train.frames} chunks of "
        f"{config.chunk_size}), measured on {held_out.episodes} held-out episodes; errors in action units"
    )
    console.print(subtitle)
    console.print(report)
    curve = None
    if config.curve:
        fit_to = policy.normalised(train.batch(torch.arange(train.frames)))
        with counting("fitting tokenizers", console) as progress:
            curve = rate_distortion(all_sweeps(config.tokenizer), fit_to, chunks, unnormalise, progress)
        console.print(curve)
    if config.output is None:
        return
    path = Path(config.output)
    if path.suffix == ".html":
        text = tokenizer_page(report, config.tokenizer, f"Tokenizer {subtitle}.", curve)
    else:
        text = "\n\n".join(part.to_markdown() for part in (report, curve) if part is not None) + "\n"
    write_whole(path, text)
    console.print(f"report: {path}")
