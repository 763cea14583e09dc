"""Which chunk to act on, given what may be drawn: a sample, or the one of least expected error (minimum Bayes risk).

Distances are root mean squares over all values of a chunk, in the units in which actions are normalized.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from anyorder.factorization.checks import SMALLEST_TEMPERATURE
from anyorder.factorization.point_estimates import LocalMean, Point, median
from anyorder.settings import Settings, setting

Rule = Callable[[Tensor], Tensor]
"""A function from samples (batch, samples, horizon, action size) to a chunk a row."""


def mean(samples: Tensor) -> Tensor:
    """Return the mean of the samples, the chunk of least expected squared error; between two modes it is in neither.

    >>> mean(torch.tensor([0.0, 0.1, 0.2, 1.0, 1.2]).view(1, 5, 1, 1)).flatten()
    tensor([0.5000])
    """
    return samples.mean(1)


def medoid(samples: Tensor) -> Tensor:
    """Return the sample with the least mean distance to the others: it is always a chunk that was drawn.

    >>> medoid(torch.tensor([0.0, 0.1, 0.3, 1.0, 1.1]).view(1, 5, 1, 1)).flatten()
    tensor([0.3000])
    """
    return at(samples, distances(samples).sum(-1).argmin(-1))


def cluster(samples: Tensor, bandwidth: float) -> Tensor:
    """Return the mean of the samples within ``bandwidth`` of the one that has the most of them there.

    Of several with equally many, the one with the least mean distance to all samples is taken. So no two samples that
    are further apart than twice the bandwidth are averaged. A large bandwidth gives the mean. One of 0 gives the
    sample drawn most often, which is the medoid where no two are equal. It is the first step of mean shift with a flat
    kernel from the densest sample (Comaniciu and Meer, 2002: "Mean Shift: A Robust Approach toward Feature Space
    Analysis").

    Args:
        samples: (batch, samples, horizon, action size).
        bandwidth: a distance.

    >>> cluster(torch.tensor([0.0, 0.1, 0.2, 1.0, 1.1]).view(1, 5, 1, 1), 0.15).flatten()
    tensor([0.1000])
    """
    apart = distances(samples)
    near = apart <= bandwidth
    count = near.sum(-1)
    most = count == count.amax(-1, keepdim=True)
    center = apart.sum(-1).masked_fill(~most, torch.inf).argmin(-1)
    members = at(near, center)[..., None, None].to(samples)
    return (members * samples).sum(1) / members.sum(1)


def distances(samples: Tensor) -> Tensor:
    """Return the distance of every two samples, (batch, samples, samples)."""
    flat = samples.flatten(2)
    # Not by a product of matrices, whose rounding would give near samples any distance.
    apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    scaled: Tensor = apart / flat.shape[-1] ** 0.5
    return scaled


def at(values: Tensor, chosen: Tensor) -> Tensor:
    """Return one of the values (batch, samples, ...) of each row: ``chosen`` (batch,)."""
    return values[torch.arange(len(values), device=values.device), chosen]


@dataclass
class DecodeConfig(Settings):
    """How a distribution over chunks becomes one chunk."""

    rule: str = setting(
        "sample",
        "What is acted on: sample (one draw, by temperature and nucleus) or, of several samples, their mean, medoid or "
        "cluster (mean of the largest cluster).",
        among=("sample", "mean", "medoid", "cluster"),
    )
    samples: int = setting(16, "Samples of an observation, for all rules but sample.", least=1, most=4096)
    temperature: float = setting(
        1.0, "Their temperature, in the place of the policy's own.", least=SMALLEST_TEMPERATURE
    )
    bandwidth: float = setting(
        0.15,
        "Distance, a root mean square in normalized units, within which samples are of one cluster.",
        least=0,
        most=1_000,
    )
    point: str = setting(
        "mode",
        "What temperature 0 takes of a token's law: mode (the most likely token) or, where tokens are ordered numbers "
        "and the head is ordinal, local_mean (the mean near the mode) or median.",
        among=("mode", "local_mean", "median"),
    )
    window: int = setting(2, "How far from the mode numbers count in local_mean.", least=0, most=1_000_000)

    def build_rule(self) -> Rule | None:
        """Return the rule over samples; None for a sample."""
        of_cluster = partial(cluster, bandwidth=self.bandwidth)
        known: dict[str, Rule | None] = {"sample": None, "mean": mean, "medoid": medoid, "cluster": of_cluster}
        return known[self.rule]

    def build_point(self) -> Point | None:
        """Return the point of a token's law; None for the mode."""
        known: dict[str, Point | None] = {"mode": None, "local_mean": LocalMean(self.window), "median": median}
        return known[self.point]
