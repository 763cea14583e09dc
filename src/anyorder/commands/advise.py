"""``anyorder advise``: which factorization to train on a dataset, with so much compute, by fitted scaling laws."""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from anyorder.errors import ConfigError
from anyorder.files import writable
from anyorder.folders import owned
from anyorder.settings import Settings, setting

if TYPE_CHECKING:
    from anyorder.datasets.read.folder import DatasetInfo


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
        {},
        "Other names for features of the dataset: rename='{actions: action, state: observation.state}'.",
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
        False,
        "Answer more than ten times outside the range of the runs, too, and at sizes and epochs that may be.",
    )
    out: str | None = setting(None, "Also write the answer to this new .json file.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pilot is not None and self.unique_tokens is not None:
            allowed = "none with pilot=..., which learns from dataset=..."
            raise ConfigError("unique_tokens", self.unique_tokens, allowed)
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
        from anyorder.commands.pilot import run_pilot
        from anyorder.commands.study import check_place

        check_place("pilot_out", Path(config.pilot_out))
        stack.enter_context(owned(Path(config.pilot_out), "pilot_out"))
        laws = str(run_pilot(config, console))
        try:
            answer(config, laws, console)
        finally:
            free = f"at no cost, laws={laws} in place of pilot={config.pilot:g} asks again, also for other minutes"
            console.print(free, markup=False, highlight=False)


def again(config: AdviseConfig) -> str:
    """Return what the same command does after it was cut off."""
    return "begins again" if config.pilot is None else "goes on with what is left of the pilot's time"


def answer(config: AdviseConfig, source: str, console: Console) -> None:
    """Count the dataset and answer by the laws of ``source``."""
    import json

    from anyorder.commands.fit import rich_table
    from anyorder.files import finite, write_whole
    from anyorder.laws.advise import advise
    from anyorder.laws.laws_file import read_laws

    laws = read_laws(source)
    if config.dataset is None:
        assert config.unique_tokens is not None
        unique_tokens, told = config.unique_tokens, f"U = {config.unique_tokens:,.0f} unique tokens"
    else:
        unique_tokens, told = count_tokens(
            dataset_info(config.dataset, config.rename),
            config.validation_fraction,
            config.values_per_token or laws.facts.values_per_token,
        )
    console.print(told, markup=False, highlight=False)
    flops = compute(config, laws.families, laws.facts.flops_per_s)
    if config.minutes is not None and config.flops_per_s is None:
        console.print(
            "FLOPs a second are those of the runs' machine; flops_per_s=... tells yours", markup=False
        )
    for family, value in (
        flops.items() if len(set(flops.values())) > 1 else [("C", next(iter(flops.values())))]
    ):
        console.print(f"{family} = {value:.3g} FLOPs (6 N D)", markup=False, highlight=False)
    advice = advise(laws, unique_tokens, flops, config.extrapolate)
    rows = [
        [
            o.family,
            f"{o.nll:.4g}",
            f"{o.interval[0]:.4g} to {o.interval[1]:.4g}",
            f"{o.probability:.2f}",
            f"{o.params:.3g}",
            f"{o.epochs:.3g}",
        ]
        for o in advice.families
    ]
    titles = ("family", "expected NLL", "95 % interval", "P(lowest)", "parameters", "epochs")
    console.print(rich_table(titles, rows))
    console.print(advice.headline(), markup=False)
    for line in advice.lines():
        console.print(f"- {line}", markup=False)
    if config.out is not None:
        content: dict[str, Any] = {
            "unique_tokens": unique_tokens,
            "protocol": advice.protocol,
            "headline": advice.headline(),
            "notes": advice.lines(),
            "families": [asdict(o) for o in advice.families],
            "critical": [
                {"families": list(names), **asdict(crossing)} for names, crossing in advice.crossings.items()
            ],
        }
        write_whole(Path(config.out), json.dumps(finite(content), indent=1, allow_nan=False) + "\n")
        console.print(f"advice: {config.out}", markup=False)


def count_tokens(info: "DatasetInfo", held_out: float, values_per_token: float | None) -> tuple[float, str]:
    """Return the unique tokens of a dataset that training sees, and how they were counted, in words.

    Args:
        info: the dataset's head.
        held_out: share of the episodes kept for validation.
        values_per_token: action values that a token stands for.

    Raises:
        UserError: it is not known how many values a token stands for.
    """
    if values_per_token is None:
        allowed = "action values that a token of the laws stands for, as laws.json does not say (bins: 1)"
        raise ConfigError("values_per_token", None, allowed)
    size = math.prod(info.shape("action"))
    tokens = info.total_frames * (1 - held_out) * size / values_per_token
    minutes = info.total_frames / info.fps / 60
    return tokens, (
        f"U = {tokens:,.0f} unique tokens: {info.total_episodes} demonstrations, {minutes:.3g} minutes, {size} action "
        f"values a frame, {values_per_token:.3g} values a token, {held_out:.0%} held out"
    )


def dataset_info(dataset: str, rename: Mapping[str, str]) -> "DatasetInfo":
    """Return the head of a dataset: a folder, or a name on the hub; ``rename`` gives features other names.

    Raises:
        UserError: there is none, or it has no actions.
    """
    from anyorder.datasets.read.folder import read_info, resolve_root, vector_keys

    folder = Path(dataset)
    named = not folder.is_dir() and dataset.count("/") == 1
    root = resolve_root(None if named else folder, dataset if named else None, images=False, field="dataset")
    info = read_info(root, "dataset").renamed(rename, "rename")
    vector_keys(info, [])
    return info


def compute(config: AdviseConfig, families: Any, measured: dict[str, float]) -> dict[str, float]:
    """Return the FLOPs of each family.

    Raises:
        ConfigError: minutes were given, and nobody knows how many FLOPs a second there are.
    """
    if config.flops is not None:
        return dict.fromkeys(families, config.flops)
    assert config.minutes is not None
    speeds = dict.fromkeys(families, config.flops_per_s) if config.flops_per_s is not None else measured
    if unknown := [family for family in families if family not in speeds]:
        allowed = f"6 N D a second on your machine, as laws.json has no time of {unknown[0]}'s runs"
        raise ConfigError("flops_per_s", config.flops_per_s, allowed)
    return {family: 60 * config.minutes * (speeds[family] or 0.0) for family in families}
