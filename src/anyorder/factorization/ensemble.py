"""Several networks that write one joint in the same way: the mean of what they say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import NotFiniteError
from anyorder.factorization.base import Factorization, LogProb, TokenFactorization
from anyorder.factorization.checks import require
from anyorder.factorization.draft import Request, Sample
from anyorder.factorization.noise import levels


@dataclass(frozen=True)
class Ensemble:
    """The joint ``p(x | c) = (1 / M) sum_m p_m(x | c)`` of M members: a family and M networks.

    It is the mean of joints, not of conditionals, so it is exact: ``log p = logsumexp_m log p_m - ln M``, and to
    sample it is to draw a member, then its code. Where members give bounds this formula gives one, too, as it grows
    with each of them. That ensembles pay where data are few: Kim et al., 2025: "Pre-training under infinite compute",
    arXiv 2509.14786.

    Attributes:
        family: how each member writes its joint.
        networks: of the members.

    >>> from anyorder.factorization import FactorizationConfig
    >>> from anyorder.testing.toy import TabularNetwork
    >>> family = FactorizationConfig.named("autoregressive").build()
    >>> networks = [TabularNetwork(length=2, vocab_size=3, seed=seed) for seed in (0, 1)]
    >>> codes, generator = networks[0].codes, torch.Generator().manual_seed(0)
    >>> found = Ensemble(family, networks).log_prob(codes, torch.zeros(len(codes), 2, 1, 1), generator=generator)
    >>> round(float(found.value.exp().sum()), 6)
    1.0
    """

    family: Factorization
    networks: Sequence[Any]

    def loss(
        self, code: Tensor, contexts: Tensor, *, generator: torch.Generator, progress: float = 1.0, repeats: int = 1
    ) -> Tensor:
        """Return the mean of the members' training losses, (batch,); none learns from another.

        Args:
            code: as of ``Factorization.loss``.
            contexts: what each member encoded of the observation, (batch, members, context tokens, width).
            generator: source of randomness; members draw one after the other.
            progress: how far training is, from 0 to 1.
            repeats: draws of each member's loss, as of ``Factorization.repeated_loss``.
        """
        losses = [
            self.family.repeated_loss(network, code, context, generator=generator, progress=progress, repeats=repeats)
            for network, context in zip(self.networks, contexts.unbind(1), strict=True)
        ]
        return torch.stack(losses).mean(0)

    def log_prob(self, code: Tensor, contexts: Tensor, *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return the log of the members' mean probability, or of their bounds'; arguments as of ``loss``.

        The standard error is, to first order, that of the members' weighted mean. To second order a bound's estimate
        errs upwards by at most half the variance of a member's, which falls with the number of draws.
        """
        family = self.family
        assert isinstance(family, TokenFactorization)
        found = [
            family.log_prob(network, code, context, generator=generator, samples=samples)
            for network, context in zip(self.networks, contexts.unbind(1), strict=True)
        ]
        values = torch.stack([one.value for one in found])
        errors = torch.stack([one.standard_error for one in found])
        share = values.softmax(0)
        # A member without weight adds no error, though its own be infinite.
        error = (share * errors).nan_to_num(nan=0.0, posinf=math.inf).square().sum(0).sqrt()
        return LogProb(values.logsumexp(0) - math.log(len(found)), error)

    def sample(self, contexts: Tensor, request: Request) -> Sample:
        """Draw a member for each row, then its code; where nothing is drawn, give the mean of all members' values.

        ``log_prob`` of the sample is that of the member it is from.

        Args:
            contexts: as of ``loss``.
            request: as of ``Factorization.sample``, without known tokens: to condition on them is not the conditional
                of the mixture, whose members they make more or less likely.

        Raises:
            ConfigError: tokens are known.
            NotFiniteError: as of ``Factorization.sample``.
        """
        require(request.known is None, "known", "tokens", "None, as an ensemble cannot condition on given ones")
        members = len(self.networks)
        if self.family.deterministic:
            every = torch.arange(len(contexts), device=contexts.device)
            answers = [self._answer(member, every, contexts, request) for member in range(members)]
            values = torch.stack([answer.chunk for answer in answers]).mean(0)
            return Sample(values, None, sum(answer.calls for answer in answers), sum(a.slots for a in answers))
        drawn = levels(members, len(contexts), contexts.device, request.generator)
        rows = [(drawn == member).nonzero().flatten() for member in range(members)]
        asked = [member for member in range(members) if len(rows[member])]
        answers = [self._answer(member, rows[member], contexts, request) for member in asked]
        back = torch.cat([rows[member] for member in asked]).argsort()
        scores = [answer.log_prob for answer in answers if answer.log_prob is not None]
        return Sample(
            torch.cat([answer.chunk for answer in answers])[back],
            torch.cat(scores)[back] if len(scores) == len(answers) else None,
            sum(answer.calls for answer in answers),
            max(answer.slots for answer in answers),
        )

    def _answer(self, member: int, rows: Tensor, contexts: Tensor, request: Request) -> Sample:
        """Return what a member draws for some rows.

        Raises:
            NotFiniteError: names the rows of the batch, not of the part.
        """
        try:
            return self.family.sample(self.networks[member], contexts[rows, member], request)
        except NotFiniteError as error:
            named = sorted(rows.tolist()[row] for row in error.rows)
            raise NotFiniteError(str(error), rows=named) from error
