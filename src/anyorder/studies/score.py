"""The likelihood of held-out chunks, in nats per action token, the same chunks and draws for every run."""

from dataclasses import dataclass

import torch

from anyorder.policies import AnyOrderPolicy
from anyorder.studies.data import Inputs
from anyorder.training.evaluate import clustered_error
from anyorder.training.score import EVAL_BATCH, score


@dataclass(frozen=True)
class Score:
    """Nats per action token, exact or an upper bound.

    Attributes:
        nll: mean over chunks.
        se: its standard error between episodes, in which that of the draws is contained; None with one episode.
        draws_se: the part that comes from Monte-Carlo draws; 0 where nothing is drawn.
    """

    nll: float
    se: float | None
    draws_se: float


def score_inputs(policy: AnyOrderPolicy, inputs: Inputs, *, draws: int, seed: int) -> Score:
    """Score a policy of tokens, in evaluation mode afterwards, on chunks that are ready made.

    A bound is of ``draws`` Monte-Carlo draws a chunk. They take their count of masked tokens from strata, one for each
    draw, and are the same whenever ``seed`` is: what differs between two runs is the runs.
    """
    parts = torch.arange(len(inputs.codes)).split(EVAL_BATCH)
    coded = ((inputs.codes[rows], inputs.context(policy, rows)) for rows in parts)
    found = score(policy, coded, samples=draws, generator=torch.Generator().manual_seed(seed))
    assert found.nll is not None
    assert found.draws_error is not None
    length = inputs.codes.shape[1]
    nll = found.nll.double() / length
    # Batch by batch, as single precision forgets small terms beside a large sum.
    squares = [float(part.square().sum()) for part in found.draws_error.split(EVAL_BATCH)]
    drawn = sum(squares) ** 0.5 / len(nll) / length if draws > 1 else 0.0
    return Score(float(nll.mean()), clustered_error(nll, inputs.episodes), drawn)
