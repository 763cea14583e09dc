"""``anyorder advise``: which factorization to train on a dataset, with so much compute, by fitted scaling laws."""

import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from anyorder.bars import duration
from anyorder.errors import ConfigError
from anyorder.files import writable
from anyorder.folders import owned
from anyorder.settings import Settings, setting

if TYPE_CHECKING:
    from anyorder.laws.question import Question
    from anyorder.studies.pilot_run import PilotConfig

LOSS = "loss_best"
"""A pilot's laws are of losses with early stopping, which those who use ``anyorder train`` follow."""


@dataclass
class AdviseConfig(Settings):
    """Settings of ``anyorder advise``."""

    laws: str | None = setting(None, "laws.json of `anyorder fit`, or its folder.")
    pilot: float | None = setting(None, "Or minutes for a study of the dataset that makes them.", above=0)
    pilot_out: str = setting("outputs/pilot", "Folder of that study; its laws are in fit/.")
    workers: int = setting(0, "Processes of that study, one thread each; all cores when 0.", least=0)
    dataset: str | None = setting(None, "Folder of a LeRobot dataset (v3), or its name on the hub.")
    observations: list[str] = setting(
        [], "Features a pilot's models read, numbers only; all low-dimensional ones when empty."
    )
    rename: dict[str, str] = setting(
        {}, "Other names for features of the dataset: rename='{actions: action, state: observation.state}'."
    )
    validation_fraction: float = setting(0.1, "Share of it that you will hold out, as in `anyorder train`.")
    values_per_token: float | None = setting(
        None, "Action values a token stands for; as laws.json says when null.", above=0
    )
    unique_tokens: float | None = setting(
        None, "In place of a dataset: how many tokens there are to learn from.", above=0
    )
    flops: float | None = setting(None, "Compute for training, 6 * parameters * tokens seen.", above=0)
    minutes: float | None = setting(None, "Or time for training.", above=0)
    flops_per_s: float | None = setting(
        None, "What your machine does of them; as measured in the study's runs when null.", above=0
    )
    extrapolate: bool = setting(
        False, "Answer more than ten times outside the range of the runs, too, and at sizes and epochs that may be."
    )
    out: str | None = setting(None, "Also write the answer to this new .json file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pilot is not None and self.unique_tokens is not None:
            raise ConfigError("unique_tokens", self.unique_tokens, "none with pilot=..., which learns from dataset=...")
        either = "" if self.pilot is not None else ", or unique_tokens=... in its stead"
        for one, other, what in (
            ("laws", "pilot", "laws.json of `anyorder fit`, or pilot=MINUTES in its stead"),
            ("dataset", "unique_tokens", f"a dataset folder{either}"),
            ("flops", "minutes", "a number, or minutes=... in its stead"),
        ):
            given = [name for name in (one, other) if getattr(self, name) is not None]
            if len(given) != 1:
                both = f"{one} and {other}" if given else None
                raise ConfigError(one, both, what)
        if self.observations and self.pilot is None:
            raise ConfigError("observations", self.observations, "none but with pilot=...")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError("validation_fraction", self.validation_fraction, "a number in [0, 1)")
        if self.out is not None and (Path(self.out).exists() or not self.out.endswith(".json")):
            raise ConfigError("out", self.out, "a new file whose name ends in .json")
        if self.out is not None and not writable(Path(self.out)):
            raise ConfigError("out", self.out, "a file in a place that can be written to")


def run(config: AdviseConfig, console: Console) -> None:
    """Read the laws, or make them by a pilot, count the dataset, answer."""
    with ExitStack() as stack:
        if config.out is not None:
            stack.enter_context(owned(Path(config.out), "out", new="a new file"))
        if config.pilot is None:
            assert config.laws is not None
            answer(config, config.laws, console)
            return
        from anyorder.studies.files import check_place

        check_place("pilot_out", Path(config.pilot_out))
        stack.enter_context(owned(Path(config.pilot_out), "pilot_out"))
        laws = str(run_pilot(config, console))
        try:
            answer(config, laws, console)
        finally:
            free = f"at no cost, laws={laws} in place of pilot={config.pilot:g} asks again, also for other minutes"
            console.print(free, markup=False, highlight=False)


def pilot_of(config: AdviseConfig) -> "PilotConfig":
    """Return what a pilot is asked."""
    from anyorder.studies.pilot_run import PilotConfig

    assert config.dataset is not None
    assert config.pilot is not None
    return PilotConfig(
        config.dataset,
        config.pilot,
        Path(config.pilot_out),
        question_of(config),
        config.workers,
        config.validation_fraction,
        config.observations,
        config.rename,
    )


def run_pilot(config: AdviseConfig, console: Console) -> Path:
    """Run a pilot within its budget, go on with one that was killed, and fit laws to it; returns their folder.

    Raises:
        UserError: the dataset cannot be studied, the question lies far outside what the pilot can reach, or too few
            runs fit its time.
    """
    from anyorder.commands.fit import FitCommandConfig, fit_table, print_files
    from anyorder.commands.study import do, plan
    from anyorder.reports.studies import data_line
    from anyorder.studies.pilot_run import TABLE, Pilot, dataset_of, free_folder

    started, asked = time.perf_counter(), pilot_of(config)
    fitted = FitCommandConfig(runs=str(asked.out / TABLE), out=str(free_folder(asked.out)), loss=LOSS, law="auto")
    info = dataset_of(asked)
    with console.status("reading the dataset"):
        pilot = Pilot(asked, info, started)
    levels = ", ".join(f"{u:,.0f}" for u in sorted({m.unique_tokens for m in pilot.grid}))
    console.print(
        f"pilot of {pilot.minutes:g} minutes on {pilot.processes} cores: {data_line(pilot.data)}; U = {levels}",
        highlight=False,
    )
    if info.cameras:
        console.print(f"it reads numbers alone, not {', '.join(info.cameras)}", markup=False, highlight=False)

    execute = partial(do, console)
    if chosen := pilot.calibration():
        console.print(f"{len(chosen)} cheap runs tell how fast this machine is", highlight=False)
        pilot.calibrate(chosen, execute)
    chosen, total_s = pilot.choose()
    if total_s is not None:
        late = f"this machine is slower than when the time was named: about {duration(total_s)} in all"
        console.print(late, highlight=False)
    pilot.check_reach(pilot.reached(chosen), f"the runs of a pilot of {pilot.minutes:g} minutes")
    if chosen:
        plan(chosen, pilot.processes, console)
    while chosen:
        pilot.train(chosen, execute)
        if chosen := pilot.fitting():
            console.print(f"there is time for {len(chosen)} more", highlight=False)
    count, missing = pilot.collect()
    more = f" ({missing} more were not finished in time)" if missing else ""
    told = f"{asked.out / TABLE}: {count} runs{more} in {duration(pilot.spent_s)}"
    console.print(told, markup=False, highlight=False)
    fit_table(fitted, console)
    print_files(fitted, console)
    return Path(fitted.out)


def again(config: AdviseConfig) -> str:
    """Return what the same command does after it was cut off."""
    return "begins again" if config.pilot is None else "goes on with what is left of the pilot's time"


def answer(config: AdviseConfig, source: str, console: Console) -> None:
    """Count the dataset and answer by the laws of ``source``."""
    import json

    from anyorder.datasets.read.folder import named_info
    from anyorder.files import finite, write_whole
    from anyorder.laws.advise import advise
    from anyorder.laws.laws_file import read_laws
    from anyorder.laws.question import tokens_of
    from anyorder.reports.advice import compute_lines, content, counted_line, headline, lines, table, tokens_line
    from anyorder.reports.text_tables import rich_table

    laws = read_laws(source)
    if config.dataset is None:
        assert config.unique_tokens is not None
        unique_tokens, told = config.unique_tokens, tokens_line(config.unique_tokens)
    else:
        info = named_info(config.dataset, config.rename)
        size = math.prod(info.shape("action"))
        per_token = config.values_per_token or laws.facts.values_per_token
        unique_tokens = tokens_of(info.total_frames, size, config.validation_fraction, per_token)
        assert per_token is not None  # or it was refused
        told = counted_line(unique_tokens, info, size, per_token, config.validation_fraction)
    console.print(told, markup=False, highlight=False)
    question = question_of(config)
    flops = question.flops_of(laws.families, laws.facts.flops_per_s)
    if question.minutes is not None and question.flops_per_s is None:
        console.print("FLOPs a second are those of the runs' machine; flops_per_s=... tells yours", markup=False)
    for line in compute_lines(flops):
        console.print(line, markup=False, highlight=False)
    ranges = {family: law.ranges["flops"] for family, law in laws.families.items()}
    question.check_reach(ranges, laws.facts.flops_per_s, "the runs of these laws")
    advice = advise(laws, unique_tokens, flops, question.extrapolate)
    console.print(rich_table(table(advice)))
    console.print(headline(advice), markup=False)
    for line in lines(advice):
        console.print(f"- {line}", markup=False)
    if config.out is not None:
        write_whole(Path(config.out), json.dumps(finite(content(advice)), indent=1, allow_nan=False) + "\n")
        console.print(f"advice: {config.out}", markup=False)


def question_of(config: AdviseConfig) -> "Question":
    """Return how much compute there is."""
    from anyorder.laws.question import Question

    return Question(config.flops, config.minutes, config.flops_per_s, config.extrapolate)
