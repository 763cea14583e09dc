"""From a study's grids to its runs: resolved settings, whose hash is the run's name, and what each costs."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from anyorder.errors import ConfigError, did_you_mean, together
from anyorder.factorization import FactorizationConfig
from anyorder.laws.law import FLOPS_PER_PARAM_TOKEN
from anyorder.networks import EncoderConfig, HeadConfig, TransformerConfig
from anyorder.settings import from_plain, to_plain
from anyorder.studies.config import EvaluationConfig, GridConfig, StudyConfig
from anyorder.training.config import OptimizerConfig

if TYPE_CHECKING:
    from anyorder.studies.data import StudyData

SOFTMAX = HeadConfig("categorical", expected_l1=0.0)
"""The head of every run from before there was a choice."""
LATER = (("queries", False), ("lookahead", 1), ("lookahead", None), ("noise", "uniform"), ("refresh", 1))
"""Settings of factorizations that are younger than the first studies, with what was meant before."""
FORMAT = 1
"""This number is raised when the same settings would train another run, so that ids of runs differ."""
SPEED_FLOPS_PER_S = 35e9
STEP_S, BLOCK_S = 8e-3, 2e-3
"""``estimated_s`` expects one core to be this fast, as measured on 2 busy ones by `benchmarks/bench_study.py`."""
Sizes = dict[tuple[str, int], tuple[int, HeadConfig]]
"""Trainable parameters and head of a factorization, by its name and width."""


@dataclass
class RunSettings:
    """All that decides what a run gives; nothing else does.

    Attributes:
        data: fingerprint of the study's data.
        unique_frames: frames to learn from.
        batch_size: chunks.
        head: with ``auto`` decided.
    """

    data: str
    factorization: FactorizationConfig
    network: TransformerConfig
    encoder: EncoderConfig
    optimizer: OptimizerConfig
    unique_frames: int
    epochs: int
    batch_size: int
    seed: int
    evaluation: EvaluationConfig
    keep_weights: str
    head: HeadConfig = field(default_factory=lambda: replace(SOFTMAX))
    format: int = FORMAT

    @property
    def id(self) -> str:
        """Hash of the settings; runs from before there were ``LATER`` ones keep theirs."""
        plain = to_plain(self)
        if self.head == SOFTMAX:
            del plain["head"]
        given = plain["factorization"]
        plain["factorization"] = {name: value for name, value in given.items() if (name, value) not in LATER}
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Member:
    """A run of a study.

    Attributes:
        id: hash of ``settings``.
        grid: the sub-grid that asked for it first.
        family: the variant's name in tables: the family's, and where its regularization differs from the study's own.
        params: with embeddings and observation encoder.
        unique_tokens: action tokens to learn from.
        tokens: seen over the run, ``unique_tokens * epochs``.
        flops: 6 N D.
        estimated_s: seconds on one core; a rule of thumb that a study corrects as it goes.
        demos: demonstrations to learn from, the last one in part.
        minutes: their length.
    """

    id: str
    grid: str
    family: str
    width: int
    regularization: dict[str, float]
    params: int
    unique_tokens: float
    tokens: float
    flops: float
    estimated_s: float
    demos: float
    minutes: float
    settings: RunSettings


def expand(config: StudyConfig, data: "StudyData") -> list[Member]:
    """Return the study's runs, each once, in the order of the grids.

    Raises:
        ConfigError: an unknown family, too many tokens in some grids, or settings that do not fit each other.
    """
    if not config.grids:
        raise ConfigError("grids", {}, "at least one, as study=FILE.yaml or grids.NAME.width=[...]")
    if wrong := too_many_tokens(config, data):
        raise together(wrong)
    found: dict[str, Member] = {}
    sizes: Sizes = {}
    for name, grid in config.grids.items():
        grid.check(name)
        for cell in cells(grid, config):
            check_cell(name, cell, config)
            member = resolve(name, cell, config, data, sizes)
            if grid.max_flops is not None and member.flops > grid.max_flops:
                continue
            other = found.setdefault(member.id, member)
            if other.family != member.family:
                allowed = f"settings that differ from {other.family}'s"
                raise ConfigError(f"families.{member.family}", "the same runs", allowed)
    if not found:
        raise ConfigError("max_flops", "no run left", "room for at least one run")
    return list(found.values())


def cells(grid: GridConfig, config: StudyConfig) -> Iterator[dict[str, Any]]:
    """Give every combination of a grid."""
    axes = {k: v for k, v in vars(grid).items() if isinstance(v, list)}
    axes["weight_decay"] = axes["weight_decay"] or [config.optimizer.weight_decay]
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def too_many_tokens(config: StudyConfig, data: "StudyData") -> list[ConfigError]:
    """Return an error for each grid that asks for more tokens than the training episodes have."""
    most = int(data.unique_tokens)
    allowed = f"at most {most} each, what the {data.train.episodes} training episodes have"
    return [
        ConfigError(f"grids.{name}.unique_tokens", grid.unique_tokens, allowed)
        for name, grid in config.grids.items()
        if max(grid.unique_tokens, default=0) > most
    ]


def check_cell(name: str, cell: dict[str, Any], config: StudyConfig) -> None:
    """Refuse an unknown family, and masking where nothing can be masked."""
    family = cell["families"]
    if family not in config.families:
        allowed = ", ".join(config.families) + did_you_mean(family, config.families)
        raise ConfigError(f"grids.{name}.families", family, allowed or "a family of `families`")
    if cell["token_masking"] and not hasattr(config.families[family], "token_masking"):
        allowed = f"0 for {family}, whose factorization has none"
        raise ConfigError(f"grids.{name}.token_masking", cell["token_masking"], allowed)


def resolve(grid: str, cell: dict[str, Any], config: StudyConfig, data: "StudyData", sizes: Sizes) -> Member:
    """Return the run of one combination; ``sizes`` remembers parameters and head of a family and width."""
    factorization = config.families[cell["families"]]
    if cell["token_masking"]:
        factorization = replace(factorization, token_masking=cell["token_masking"])  # type: ignore[call-arg]
        factorization.build()
    width, epochs = cell["width"], cell["epochs"]
    network = config.size.network(width, cell["dropout"], cell["attention_dropout"])
    encoder = config.size.encoder(width)
    kind = factorization.choice, width
    if kind not in sizes:
        policy = data.policy(factorization, network, encoder, config.head)
        sizes[kind] = policy.trainable, policy.config.head
    params, head = sizes[kind]
    frames = max(1, round(cell["unique_tokens"] / data.tokens_per_frame))
    unique = frames * data.tokens_per_frame
    tokens = unique * epochs
    settings = RunSettings(
        data=data.fingerprint,
        factorization=factorization,
        network=network,
        encoder=encoder,
        optimizer=replace(
            config.optimizer,
            lr=config.size.learning_rate(config.optimizer.lr, width),
            weight_decay=cell["weight_decay"],
        ),
        unique_frames=frames,
        epochs=epochs,
        batch_size=config.batch_size(tokens, data.length),
        seed=cell["seed"],
        evaluation=config.evaluation,
        keep_weights=config.keep_weights,
        head=head,
    )
    return Member(
        id=settings.id,
        grid=grid,
        family=label(cell, config),
        width=width,
        regularization={k: cell[k] for k in REGULARIZATION},
        params=params,
        unique_tokens=unique,
        tokens=tokens,
        flops=FLOPS_PER_PARAM_TOKEN * params * tokens,
        estimated_s=estimated_s(settings, params, tokens, data),
        demos=data.demonstrations(frames, cell["seed"]),
        minutes=frames / data.train.fps / 60,
        settings=settings,
    )


REGULARIZATION = ("weight_decay", "dropout", "attention_dropout", "token_masking")
"""These axes of a grid keep a run from learning its data by heart; they are part of a variant's name."""


def label(cell: dict[str, Any], config: StudyConfig) -> str:
    """Return the variant's name: the family's, with the regularization where it is not the study's own.

    >>> config = StudyConfig(families={"ar": FactorizationConfig.named("autoregressive")})
    >>> grid = GridConfig(["ar"], [16], [100], [1], dropout=[0.0, 0.2])
    >>> [label(cell, config) for cell in cells(grid, config)]
    ['ar', 'ar dropout=0.2']
    """
    own = dict.fromkeys(REGULARIZATION, 0.0) | {"weight_decay": config.optimizer.weight_decay}
    differs = [f"{name}={cell[name]:g}" for name in REGULARIZATION if cell[name] != own[name]]
    return " ".join([cell["families"], *differs])


def estimated_s(settings: RunSettings, params: int, tokens: float, data: "StudyData") -> float:
    """Estimate a run's seconds on one core: a fixed cost a step, and its FLOPs at one speed.

    A forward pass, in evaluation, costs a third of a step.
    """
    length, blocks = data.length, settings.network.depth
    chunk_s = FLOPS_PER_PARAM_TOKEN * params * length / SPEED_FLOPS_PER_S
    visits = tokens / length * 1.1  # chunks of which a part counts
    steps = visits / settings.batch_size
    train_s = steps * (STEP_S + blocks * BLOCK_S) + visits * chunk_s
    scored = settings.evaluation
    moments = len(scored.epochs(settings.epochs))
    bound = not settings.factorization.build().exact
    draws, test_draws = (scored.draws, scored.test_draws) if bound else (1, 1)
    validation = min(scored.chunks, data.validation.frames) * draws * moments
    test = min(scored.test_chunks, data.test.frames) * test_draws * min(2, moments)
    return train_s + (validation + test) * (chunk_s / 3 + 3e-5)


ON_DISK = {"regularization": "regularisation"}
"""These fields of a member have other names in ``study.json``."""


def as_plain(member: Member) -> dict[str, Any]:
    """Return a member, ready for JSON."""
    plain = {ON_DISK.get(f.name, f.name): getattr(member, f.name) for f in dataclasses.fields(member)}
    return {**plain, "settings": to_plain(member.settings)}


def read_member(plain: Mapping[str, Any]) -> Member:
    """Return the member that ``as_plain`` wrote.

    Raises:
        ConfigError: its settings are none of a run.
    """
    given = {**plain, "settings": from_plain(RunSettings, plain["settings"])}
    return Member(**{f.name: given[ON_DISK.get(f.name, f.name)] for f in dataclasses.fields(Member)})
