"""What laws are asked: how many unique tokens there are, and how much compute each family may spend."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from anyorder.errors import ConfigError, UserError
from anyorder.laws.advise import FAR, outside


def tokens_of(frames: int, action_size: int, held_out: float, values_per_token: float | None) -> float:
    """Return the unique tokens of a dataset that training sees.

    Args:
        frames: of the whole dataset.
        action_size: dimensions of an action.
        held_out: share of the episodes kept for validation.
        values_per_token: action values that a token stands for.

    Raises:
        ConfigError: it is not known how many values a token stands for.

    >>> tokens_of(1000, 6, held_out=0.1, values_per_token=2.0)
    2700.0
    """
    if values_per_token is None:
        allowed = "action values that a token of the laws stands for, as laws.json does not say (bins: 1)"
        raise ConfigError("values_per_token", None, allowed)
    return frames * (1 - held_out) * action_size / values_per_token


@dataclass(frozen=True)
class Question:
    """How much compute there is: FLOPs, or minutes of a machine.

    Attributes:
        flops: C = 6 N D; None where minutes are given.
        minutes: of training; None where FLOPs are given.
        flops_per_s: 6 N D a second of the machine; None where the runs of each family tell it.
        extrapolate: whether an answer far outside the range of the runs is wanted.

    >>> Question(minutes=2.0).flops_of(["ar"], {"ar": 1e9})
    {'ar': 120000000000.0}
    """

    flops: float | None = None
    minutes: float | None = None
    flops_per_s: float | None = None
    extrapolate: bool = False

    def flops_of(self, families: Iterable[str], measured: Mapping[str, float]) -> dict[str, float]:
        """Return the FLOPs of each family.

        Args:
            families: their names.
            measured: FLOPs a second that runs of a family reached.

        Raises:
            ConfigError: minutes were given, and nobody knows how many FLOPs a second there are.
        """
        families = list(families)
        if self.flops is not None:
            return dict.fromkeys(families, self.flops)
        assert self.minutes is not None
        speeds = dict.fromkeys(families, self.flops_per_s) if self.flops_per_s is not None else measured
        if unknown := [family for family in families if family not in speeds]:
            allowed = f"6 N D a second on your machine, as laws.json has no time of {unknown[0]}'s runs"
            raise ConfigError("flops_per_s", self.flops_per_s, allowed)
        return {family: 60 * self.minutes * (speeds[family] or 0.0) for family in families}

    def check_reach(self, ranges: Mapping[str, tuple[float, float]], flops_per_s: Mapping[str, float], of: str) -> None:
        """Refuse a question that lies far outside what laws were fitted to, or will be.

        Args:
            ranges: by family, the least and the most FLOPs of its runs.
            flops_per_s: by family, how fast they are; not needed where FLOPs or a machine's own speed were given.
            of: whose runs they are, for the message.

        Raises:
            UserError: the compute lies far outside those of a family, and ``extrapolate`` was not given; it says what
                all families could answer, in the unit that was asked in.

        >>> Question(minutes=9.0).check_reach({"ar": (6e9, 6e10)}, {"ar": 1e9}, "a pilot")
        >>> Question(minutes=11.0).check_reach({"ar": (6e9, 6e10)}, {"ar": 1e9}, "a pilot")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        anyorder.errors.UserError: minutes: 11.0 given, allowed: 0.01 to 10: at most 10x outside the 6e+09 ...
        """
        if self.extrapolate:
            return
        asked = self.flops_of(ranges, flops_per_s)
        far = {family: outside(asked[family], *ends) for family, ends in ranges.items()}
        worst = max(far, key=far.__getitem__)
        if far[worst] <= FAR:
            return
        name, value = ("flops", self.flops) if self.flops is not None else ("minutes", self.minutes)
        assert value is not None
        low = max(least / FAR * value / asked[family] for family, (least, _) in ranges.items())
        high = min(most * FAR * value / asked[family] for family, (_, most) in ranges.items())
        least, most = ranges[worst]
        allowed = (
            f"{two_digits(low, math.ceil):g} to {two_digits(high, math.floor):g}: at most {FAR:g}x outside the "
            f"{least:.2g} to {most:.2g} FLOPs of {of}; extrapolate=true answers all the same"
        )
        raise UserError(name, value, allowed)


def two_digits(value: float, toward: Callable[[float], int]) -> float:
    """Return a number above 0 rounded to two digits, up or down, so that what a message allows is allowed.

    >>> two_digits(2.389, math.floor), two_digits(0.03121, math.ceil)
    (2.3, 0.032)
    """
    digits = 1 - math.floor(math.log10(value))
    # Rounded before, as 10 may come as 9.999999999999998.
    return round(toward(round(value * 10.0**digits, 6)) / 10.0**digits, max(digits, 0))
