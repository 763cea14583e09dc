"""The contract: a factorization says which conditionals a joint over a chunk is written as.

It owns the loss, the likelihood and the sampler, and no weights. The network answers one question: given slots, say
what is likely there. A *slot* is (token, position, target): the token it carries (or MASK, or START), where that token
sits in the code, and which position the answer predicts. Which slots see which is data, too, so every family shares one
network.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final, override

import torch
from torch import Tensor

from anyorder.factorization.checks import check_codes, require
from anyorder.factorization.draft import Counted, Draft, Request, Sample
from anyorder.factorization.slots import TokenNetwork
from anyorder.settings import Choice


@dataclass(frozen=True)
class LogProb:
    """Log-likelihood in nats, or a lower bound on it.

    Attributes:
        value: estimate per sequence, shape (batch,).
        standard_error: Monte-Carlo standard error of ``value``, shape (batch,); zero where it is computed exactly.
    """

    value: Tensor
    standard_error: Tensor


class Factorization(ABC):
    """One way to write p(chunk | context) as conditionals.

    A family says how its loss is computed and, in ``_sample``, in which order a draft is filled; ``sample`` is written
    once, here.

    Attributes:
        discrete: the chunk is tokens (True) or continuous values (False).
        draws_tokens: the network answers with logits, and tokens are drawn from them, which is what ``temperature`` and
            ``nucleus`` act on (True); it maps values to values (False).
        exact: ``log_prob`` is the likelihood (True) or a lower bound, the ELBO (False); None where none is defined.
        simulates: the sampler draws from the model whose likelihood (or bound) ``log_prob`` gives; False where it
            seeks modes, or where its steps are an approximation that improves with their number.
        infills: which ``known`` positions sampling conditions on: a ``prefix`` of the order or of the blocks, exactly;
            ``any``, in orders that begin with them: exactly the conditional where the network's conditionals fit one
            joint, else another law than the conditional of samples without ``known``; ``approximate`` (any, by
            overwriting); or None (none can be given).
        needs_levels: the code must have levels, as those of the ``dct`` and ``multiscale_vq`` tokenizers.
        deterministic: nothing is drawn: an observation has one chunk, whatever the seed.
        needs_numbers: every token must be a number, as those of the ``dct``, ``bins`` and ``bspline`` tokenizers.
        anneals: what is learnt changes along training, so that ``loss`` asks for its progress.
    """

    discrete: ClassVar[bool]
    draws_tokens: ClassVar[bool] = True
    deterministic: ClassVar[bool] = False
    exact: bool | None
    simulates: bool = True
    infills: str | None = None
    needs_levels: bool = False
    needs_numbers: bool = False
    anneals: bool = False

    def check(self, network: Any) -> None:  # noqa: B027 - most families ask nothing of a code
        """Refuse a network whose code this family cannot write; raises ``ConfigError``."""

    @abstractmethod
    def calls(self, length: int) -> int:
        """Return the network calls one sample of ``length`` slots costs; the most it can, where that adapts."""

    @abstractmethod
    def loss(
        self, network: Any, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        """Return the training loss per sequence, shape (batch,); in nats where it is a likelihood or a bound.

        Float32 at least, under autocast and with half-precision weights, too.

        Args:
            network: the network to ask.
            code: tokens (batch, length); for continuous families a chunk of values (batch, horizon, action size).
            context: encoded observation (batch, context tokens, width).
            generator: source of randomness; it may be on another device than the network: numbers are drawn there and
                moved.
            progress: how far training is, from 0 to 1; it matters where the family ``anneals``.
        """

    @final
    def sample(self, network: Any, context: Tensor, request: Request) -> Sample:
        """Draw one code or chunk per row of ``context`` (batch, context tokens, width).

        Raises:
            ConfigError: the family cannot do what is asked.
            NotFiniteError: the network answered NaN or infinity; no token or value is made of that.
        """
        can = request.known is None or self.infills is not None
        require(can, "known", "tokens", "None, as this family cannot condition on given ones")
        draft = self._draft(network, context, request)
        self._sample(Counted(network, draft), context, draft)
        finished: Sample = draft.sample()
        return finished

    def _draft(self, network: Any, context: Tensor, request: Request) -> Any:
        """Return the empty draft of what the family draws."""
        return Draft(request, context, network.length, network.vocab_size)

    @abstractmethod
    def _sample(self, network: Any, context: Tensor, draft: Any) -> None:
        """Fill the draft; the network counts its calls."""


class TokenFactorization(Factorization):
    """A factorization of a joint over tokens; it has a likelihood or a bound.

    Attributes:
        loss_scores: the loss is an unbiased draw of ``-log_prob``; False where training differs from evaluation.
        normalizes: it reads the network's answer as distributions; False where as other numbers, which a softmax alone
            gives.
        mixture: how many likelihoods ``log_prob`` averages.
    """

    discrete = True
    exact: bool
    infills: str | None = "any"
    loss_scores: bool = True
    normalizes: ClassVar[bool] = True
    mixture: int = 1

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        return -self.token_scores(network, code, context, generator=generator, samples=1)[0].sum(-1)

    @abstractmethod
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return what each token adds to the log-likelihood or its bound, nats.

        Returns:
            Shape (draws, batch, length): ``samples`` independent unbiased draws, or one where nothing is random.
        """

    def token_log_probs(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int = 32
    ) -> Tensor:
        """Return each token's share of ``log_prob``, shape (batch, length), nats.

        They sum to it, but for a mixture, whose logarithm has no such shares: there they sum to less.
        """
        check_codes(network.length, code, samples)
        return self.token_scores(network, code, context, generator=generator, samples=samples).mean(0)

    def log_prob(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int = 32
    ) -> LogProb:
        """Return log p(code | context) per sequence, or its lower bound from ``samples`` Monte-Carlo draws.

        The standard error treats draws as independent: where they are stratified it errs on the large side.
        """
        check_codes(network.length, code, samples)
        draws = self.token_scores(network, code, context, generator=generator, samples=samples).sum(-1)
        error = torch.zeros_like(draws[0])
        if not self.exact:
            error = draws.std(0) / len(draws) ** 0.5 if len(draws) > 1 else error + float("inf")
        return LogProb(draws.mean(0), error)


@dataclass
class FactorizationConfig(Choice):
    """Settings of a factorization; ``build()`` makes it.

    Attributes:
        family: the class of what is made.
    """

    family: ClassVar[type[Factorization]]

    def build(self) -> Factorization:
        """Make the factorization; where ``family`` takes something else than the settings by name, a subclass does."""
        return self.family(**vars(self))
