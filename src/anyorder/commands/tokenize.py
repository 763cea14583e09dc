"""``anyorder tokenize``: fit a tokenizer to a dataset and report what it costs and loses."""

from dataclasses import dataclass, replace
from pathlib import Path

from lerobot.utils.constants import OBS_STATE
from rich.console import Console

from anyorder.bars import counting
from anyorder.errors import MAX_COUNT, ConfigError
from anyorder.files import writable
from anyorder.folders import owned
from anyorder.settings import Settings, setting
from anyorder.tokenizers import TokenizerConfig
from anyorder.tokenizers.steadiness import JITTER
from anyorder.training.config import DatasetConfig
from anyorder.training.data import dataset_infos

FORMATS = (".html", ".md")


@dataclass
class TokenizeConfig(Settings):
    """Settings of ``anyorder tokenize``."""

    dataset: DatasetConfig = setting(
        meaning="What to fit it to, as of `anyorder train`; cameras and observations are not read."
    )
    tokenizer: TokenizerConfig = setting(meaning="Which tokenizer; `--help` lists the tokenizers.")
    chunk_size: int = setting(6, "Time steps in a chunk.", least=1, most=MAX_COUNT)
    relative_actions: bool = setting(
        False, "Joint targets relative to the current joints: better likelihood, worse success."
    )
    curve: bool = setting(False, "Also measure bits against error of every tokenizer: fits dozens, takes minutes.")
    jitter: float = setting(
        JITTER, "Standard deviation of the noise of the jitter entropy, in half ranges of an action.", least=0, most=1
    )
    output: str | None = setting(None, "Also write the report to this new file: a page (.html) or Markdown (.md).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output is not None:
            path = Path(self.output)
            if path.exists() or path.suffix not in FORMATS:
                raise ConfigError("output", self.output, f"a new file whose name ends in {' or '.join(FORMATS)}")
            if not writable(path):
                raise ConfigError("output", self.output, "a file in a place that can be written to")


def run(config: TokenizeConfig, console: Console) -> None:
    """Fit on the training episodes, measure on the held-out ones."""
    if config.output is None:
        measure(config, console)
        return
    with owned(Path(config.output), "output", new="a new file"):
        measure(config, console)


def measure(config: TokenizeConfig, console: Console) -> None:
    """Fit, measure, and write the report if one is asked for."""
    dataset_infos(config.dataset)  # before the imports, which take seconds
    import torch

    from anyorder.files import write_whole
    from anyorder.policies import AnyOrderConfig
    from anyorder.policies.codec import ActionCodec, action_reference
    from anyorder.reports.tokenizer_tables import curve_markdown, curve_table, report_markdown, report_tables
    from anyorder.reports.tokenizers import tokenizer_page
    from anyorder.tokenizers.rate_distortion import all_sweeps, rate_distortion
    from anyorder.tokenizers.report import tokenizer_report
    from anyorder.training.data import load_chunks
    from anyorder.training.progress import tell

    # What is observed says nothing about actions, but for the state that they may be relative to.
    dataset = replace(config.dataset, observations=[], image_size=None)
    needed = [OBS_STATE] if config.relative_actions else []
    train, held_out = load_chunks(dataset, config.chunk_size, features=needed, tell=tell)
    measured = held_out if held_out.frames else train
    reference = action_reference(train.given_names) if config.relative_actions else []
    learnt, held = (part.batch(torch.arange(part.frames)) for part in (train, measured))
    with console.status("fitting the tokenizer"):
        # Normalized as by a policy that is trained on the same data.
        mode = AnyOrderConfig(device="cpu").normalization_mapping["ACTION"]
        codec = ActionCodec.fit(learnt, config.chunk_size, mode, config.tokenizer, reference)
    assert codec.tokenizer is not None
    chunks, back = codec.normalize(held), codec.normalizer.inverse
    episodes = held["episode_index"]
    report = tokenizer_report(codec.tokenizer, chunks, back, train.action_names, episodes, config.jitter)
    subtitle = (
        f"{config.tokenizer.choice}, fitted to {train.episodes} episodes ({train.frames} chunks of "
        f"{config.chunk_size}), measured on {measured.episodes} {'held-out' if held_out.frames else 'of these'} "
        f"episodes; errors in action units"
    )
    console.print(subtitle)
    console.print(report_tables(report))
    curve = None
    if config.curve:
        with counting("fitting tokenizers", console) as progress:
            curve = rate_distortion(
                all_sweeps(config.tokenizer),
                codec.normalize(learnt),
                chunks,
                back,
                progress,
                episodes=episodes,
                jitter=config.jitter,
            )
        console.print(curve_table(curve))
    if config.output is None:
        return
    path = Path(config.output)
    if path.suffix == ".html":
        text = tokenizer_page(report, config.tokenizer, f"Tokenizer {subtitle}.", curve)
    else:
        parts = [report_markdown(report), *([] if curve is None else [curve_markdown(curve)])]
        text = "\n\n".join(parts) + "\n"
    write_whole(path, text)
    console.print(f"report: {path}")
