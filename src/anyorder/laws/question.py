"""What laws are asked: how many unique tokens there are, and how much compute each family may spend."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from anyorder.errors import ConfigError, UserError
from anyorder.laws.advise import FAR, outside
from anyorder.laws.facts import top_speed
from anyorder.laws.law import Array


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

    def check_reach(self, flops: Array, seconds: Array | None, what: str) -> None:
        """Refuse a question that the laws of a family's runs would not answer, before they are trained.

        Args:
            flops: (runs,) of the runs there will be.
            seconds: (runs,) they take on this machine; None where that is not known.
            what: the runs are, for the message.

        Raises:
            UserError: the compute lies far outside theirs, and ``extrapolate`` was not given.
        """
        if self.extrapolate or (self.flops is None and self.flops_per_s is None and seconds is None):
            return
        low, high = float(np.min(flops)), float(np.max(flops))
        if self.flops is not None:
            name, value, per_unit = "flops", self.flops, 1.0
        else:
            assert self.minutes is not None
            speed = self.flops_per_s or top_speed(flops, np.asarray(seconds))
            name, value, per_unit = "minutes", self.minutes, 60 * speed
        if outside(value * per_unit, low, high) > FAR:
            allowed = (
                f"{low / FAR / per_unit:.2g} to {high * FAR / per_unit:.2g}: at most {FAR:g}x outside the {low:.2g} to "
                f"{high:.2g} FLOPs of {what}; extrapolate=true answers all the same"
            )
            raise UserError(name, value, allowed)
