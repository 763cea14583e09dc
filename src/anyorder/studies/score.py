"""The likelihood of held-out chunks, in nats per action token, the same chunks and draws for every run."""

from dataclasses import dataclass

import torch

from anyorder.factorization import TokenFactorization
from anyorder.policies import AnyOrderPolicy
from anyorder.studies.data import Inputs
from anyorder.training.evaluate import EVAL_BATCH, clustered_error


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


@torch.no_grad()
def score(policy: AnyOrderPolicy, inputs: Inputs, *, draws: int, seed: int) -> Score:
    """Score a policy as ``anyorder.training.evaluate.validate`` does, on inputs that are ready made.

    A bound's draws take their count of masked tokens from strata, one for each draw of a chunk, and are the same
    whenever ``seed`` is: what differs between two runs is the runs.

    Args:
        policy: a family of tokens; in evaluation mode afterwards.
        inputs: the chunks.
        draws: Monte-Carlo draws per chunk, for bounds.
        seed: of the draws.
    """
    policy.eval()
    family, network = policy.factorization, policy.network
    assert isinstance(family, TokenFactorization)
    generator = torch.Generator().manual_seed(seed)
    nlls, variance = [], 0.0
    for rows in torch.arange(len(inputs.codes)).split(EVAL_BATCH):
        found = family.log_prob(
            network,  # type: ignore[arg-type]  # StudyData.policy has checked it
            inputs.codes[rows],
            inputs.context(policy, rows),
            generator=generator,
            samples=draws,
        )
        nlls.append(-found.value)
        variance += float(found.standard_error.square().sum()) if draws > 1 else 0.0
    nll = torch.cat(nlls).double() / inputs.codes.shape[1]
    error = clustered_error(nll, inputs.episodes)
    return Score(float(nll.mean()), error, variance**0.5 / len(nll) / inputs.codes.shape[1])
