"""Rate against distortion: what other settings, and other tokenizers, would cost and lose on the same chunks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.tokenizers.base import TokenizerConfig
from anyorder.tokenizers.report import tokenizer_report
from anyorder.tokenizers.steadiness import JITTER, Steadiness


@dataclass(frozen=True)
class RatePoint:
    """What one tokenizer costs and loses; the means are over the held-out chunks.

    Attributes:
        tokenizer: the tokenizer's choice.
        label: where its dial stands, as ``scale=22``.
        settings: all its settings.
        tokens_mean: mean tokens per chunk, END included and PAD not.
        bits_unigram: bits per chunk under the tokens' own frequencies.
        rmse_normalised: root mean square error over all values, in normalized units.
        rmse: the same in action units.
        steadiness: how steady the codes are; None where the chunks' episodes are not known.
    """

    tokenizer: str
    label: str
    settings: dict[str, Any]
    tokens_mean: float
    bits_unigram: float
    rmse_normalised: float
    rmse: float
    steadiness: Steadiness | None

    def is_of(self, config: TokenizerConfig) -> bool:
        """Say whether it was measured with these settings."""
        return (self.tokenizer, self.settings) == (config.choice, config.options())


@dataclass(frozen=True)
class RateDistortion:
    """Points in the order of their settings, and one line for each setting that gave none.

    Attributes:
        points: what was measured.
        skipped: which settings were left out, and why.
    """

    points: tuple[RatePoint, ...]
    skipped: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready."""
        return asdict(self)


def all_sweeps(chosen: TokenizerConfig) -> list[TokenizerConfig]:
    """Return the sweep of the chosen settings and the default sweep of every other tokenizer.

    >>> chosen = TokenizerConfig.named("bins", bins=100)
    >>> chosen in all_sweeps(chosen), len({config.choice for config in all_sweeps(chosen)}) > 5
    (True, True)
    """
    starts = [
        chosen if choice == chosen.choice else TokenizerConfig.named(choice)
        for choice in sorted(TokenizerConfig.choices)
    ]
    return [config for start in starts for config in start.sweep()]


def rate_distortion(
    settings: Sequence[TokenizerConfig],
    fit_to: Tensor,
    held_out: Tensor,
    unnormalize: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
    episodes: Tensor | None = None,
    jitter: float = JITTER,
) -> RateDistortion:
    """Fit every setting to the same chunks and measure it on the same others.

    Left out, each with a line in ``skipped``, are settings that these chunks do not allow (``ConfigError``), and
    settings that change nothing: more control points than time steps are as many as time steps.

    Args:
        settings: what to measure, in the order of the points.
        fit_to: normalized chunks (count, horizon, action size) to fit to.
        held_out: normalized chunks to measure on.
        unnormalize: maps normalized chunks to action units; without it ``rmse`` is in normalized units.
        progress: told (finished, wanted) as it goes.
        episodes: the episode of each held-out chunk (count,), as for ``tokenizer_report``.
        jitter: likewise.

    >>> import torch
    >>> chunks = torch.linspace(-1, 1, 64).view(64, 1, 1).expand(-1, 4, 2)
    >>> config = TokenizerConfig.named("bins", bins=64)
    >>> curve = rate_distortion([config], chunks, chunks)
    >>> curve.points[0].label, curve.points[0].bits_unigram
    ('bins=64', 48.0)
    """
    points: list[RatePoint] = []
    skipped = []
    for finished, config in enumerate(settings):
        if progress is not None:
            progress(finished, len(settings))
        try:
            point = measure(config, fit_to, held_out, unnormalize, episodes, jitter)
        except ConfigError as error:
            skipped.append(f"{config.choice} {config.label()}: {error}")
            continue
        same = _same(point, points)
        if same is None:
            points.append(point)
        else:
            skipped.append(f"{config.choice} {config.label()}: no other codes here than {same.label}")
    if progress is not None:
        progress(len(settings), len(settings))
    return RateDistortion(tuple(points), tuple(skipped))


def measure(
    config: TokenizerConfig,
    fit_to: Tensor,
    held_out: Tensor,
    unnormalize: Callable[[Tensor], Tensor] | None = None,
    episodes: Tensor | None = None,
    jitter: float = JITTER,
) -> RatePoint:
    """Fit one setting and measure it; arguments as for ``rate_distortion``.

    Raises:
        ConfigError: the setting does not fit these chunks.
    """
    report = tokenizer_report(config.fit(fit_to), held_out, unnormalize, episodes=episodes, jitter=jitter)
    return RatePoint(
        tokenizer=config.choice,
        label=config.label(),
        settings=config.options(),
        tokens_mean=report.tokens_mean,
        bits_unigram=report.bits_unigram,
        rmse_normalised=report.rmse_normalised,
        rmse=report.rmse,
        steadiness=report.steadiness,
    )


def _same(point: RatePoint, points: Iterable[RatePoint]) -> RatePoint | None:
    """Return the earlier point of the same tokenizer with exactly the same numbers, if there is one."""

    def numbers(p: RatePoint) -> tuple[Any, ...]:
        return (p.tokenizer, p.tokens_mean, p.bits_unigram, p.rmse_normalised)

    return next((p for p in points if numbers(p) == numbers(point)), None)
