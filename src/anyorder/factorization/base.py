"""The contract: a factorization says which conditionals a joint over a chunk is written as.

It owns the loss, the likelihood and the sampler, and no weights. The network answers one question: given slots, give
logits. A *slot* is (token, position, target): the token it carries (or MASK, or START), where that token sits in the
code, and which position its logits predict. Which slots see which is data, too, so every family shares one network.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from anyorder.factorization.checks import check_codes, check_finite
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.settings import Choice


class Slots(NamedTuple):
    """What a network reads; each of shape (batch, slots), int64.

    Attributes:
        tokens: a token, or ``vocab_size`` for MASK, ``vocab_size + 1`` for START.
        positions: where the token sits; ``length`` for START.
        targets: which position the logits predict; ``length`` where that is not said, or nothing is asked.
    """

    tokens: Tensor
    positions: Tensor
    targets: Tensor


class TokenNetwork(Protocol):
    """A network over slots: tokens 0..vocab_size-1 plus the inputs MASK = vocab_size and START = vocab_size + 1.

    Positions are 0..length-1; the START slot sits at position ``length``.

    Attributes:
        length: tokens in a code.
        vocab_size: number of tokens.
        levels: how many tokens each level of the code has, coarsest first (the scales or frequencies of its tokenizer);
            they sum to ``length``. None where the code has none.
    """

    length: int
    vocab_size: int
    levels: tuple[int, ...] | None

    def prefill(self, context: Tensor) -> Any:
        """Encode the context (batch, context tokens, width) once; returns a cache that slots can attend to."""

    def __call__(
        self, slots: Slots, cache: Any, visible: Tensor | None = None, keep: int | None = None
    ) -> tuple[Tensor, Any]:
        """Return logits (batch, slots, vocab_size) and the cache extended by these slots.

        Slots see everything in the cache, and each other where ``visible`` (slots, slots) or (batch, slots, slots)
        is True; None means everywhere. The returned cache holds the first ``keep`` of them; all when None.
        """


class ValueNetwork(Protocol):
    """The same trunk over continuous slots, one per time step of the chunk.

    Attributes:
        horizon: slots.
        action_size: numbers in each.
        vocab_size: where the numbers stand for tokens, how many there are.
        limit: the largest absolute value of those numbers; infinity where they have none. It depends on how actions
            are normalised.
    """

    horizon: int
    action_size: int
    vocab_size: int | None
    limit: float

    def prefill(self, context: Tensor) -> Any:
        """Encode the context once; returns a cache that slots can attend to."""

    def __call__(self, values: Tensor, times: Tensor | None, cache: Any) -> Tensor:
        """Map values (batch, horizon, action size) and times in [0, 1] (batch,) to values of the same shape."""


class EmbeddingNetwork(Protocol):
    """A network over slots that also reads vectors in the place of tokens."""

    length: int

    def prefill(self, context: Tensor) -> Any:
        """Encode the context once; returns a cache that slots can attend to."""

    def embeddings(self) -> Tensor:
        """Return the embedding of every token, (vocab_size, width)."""

    def from_vectors(self, vectors: Tensor, cache: Any) -> Tensor:
        """Return logits (batch, length, vocab_size); vectors (batch, length, width) stand where embeddings do."""


@dataclass(frozen=True)
class LogProb:
    """Log-likelihood in nats, or a lower bound on it.

    Attributes:
        value: estimate per sequence, shape (batch,).
        standard_error: Monte-Carlo standard error of ``value``, shape (batch,); zero where it is computed exactly.
    """

    value: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class Sample:
    """What a sampler drew, and what that cost.

    Attributes:
        chunk: tokens (batch, length), int64; for continuous families values (batch, horizon, action size).
        log_prob: sum of the log-conditionals the sampler drew from, at temperature 1 and without the constraint,
            shape (batch,), nats; None where the family defines none. Known positions do not count.
        forwards: network calls, the context's prefill not counted (families that tell the network the noise level, as
            ``uniform_diffusion``, read the context anew at every call).
        slots: slots processed per sequence over all those calls.

    Raises:
        NotFiniteError: the chunk holds NaN or infinity; tokens have been checked where they were drawn.
    """

    chunk: Tensor
    log_prob: Tensor | None
    forwards: int
    slots: int

    def __post_init__(self) -> None:
        if self.chunk.is_floating_point():
            check_finite(self.chunk, "the predicted chunk")


class Factorization(ABC):
    """One way to write p(chunk | context) as conditionals.

    Attributes:
        discrete: the chunk is tokens (True) or continuous values (False).
        reads: what the network reads: ``slots`` of tokens, ``values`` (the trunk over vectors), or ``embeddings``
            (vectors in, logits out).
        exact: ``log_prob`` is the likelihood (True) or a lower bound, the ELBO (False); None where none is defined.
        simulates: the sampler draws from the model whose likelihood (or bound) ``log_prob`` gives; False where it
            seeks modes, or where its steps are an approximation that improves with their number.
        infills: which ``known`` positions sampling conditions on: a ``prefix`` of the order or of the blocks, exactly;
            ``any``, in orders that begin with them: exactly the conditional where the network's conditionals fit one
            joint, else another law than the conditional of samples without ``known``; ``approximate`` (any, by
            overwriting); or None (none can be given).
        needs_levels: the code must have levels, as those of the ``dct`` and ``multiscale_vq`` tokenizers.
        anneals: what is learnt changes along training, so that a training step asks ``at(progress)`` for its loss.
    """

    discrete: ClassVar[bool]
    reads: ClassVar[str]
    exact: bool | None
    simulates: bool = True
    infills: str | None = None
    needs_levels: bool = False
    anneals: bool = False

    @property
    def draws_tokens(self) -> bool:
        """Whether tokens are drawn from logits, which is what ``temperature`` and ``nucleus`` act on."""
        return self.reads != "values"

    def check(self, network: Any) -> None:  # noqa: B027 - most families ask nothing of a code
        """Refuse a network whose code this family cannot write; raises ``ConfigError``."""

    def at(self, progress: float) -> Self:
        """Return the family as it is at this moment of training, from 0 (its start) to 1 (its end).

        Only ``loss`` may differ, and only where ``anneals``; without ``at`` it is that of the end of training.
        """
        return self

    @abstractmethod
    def forwards(self, length: int) -> int:
        """Return the network calls one sample of ``length`` slots costs; the most it can, where that adapts."""

    @abstractmethod
    def loss(self, network: Any, chunk: Tensor, context: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the training loss per sequence, shape (batch,); in nats where it is a likelihood or a bound.

        Float32 at least, under autocast and with half-precision weights, too. ``generator`` may be on another device
        than the network: numbers are drawn there and moved.
        """

    @abstractmethod
    def sample(
        self,
        network: Any,
        context: Tensor,
        *,
        generator: torch.Generator,
        temperature: float = 1.0,
        nucleus: float = 1.0,
        constraint: TokenAutomaton | None = None,
        known: Tensor | None = None,
    ) -> Sample:
        """Draw one chunk per row of ``context`` (batch, context tokens, width).

        Args:
            network: the network to ask.
            context: encoded observation.
            generator: the only source of randomness; it may be on another device than ``context``.
            temperature: 1 samples the model, 0 takes the most likely token (token families).
            nucleus: only the most likely tokens that together have this probability are drawn (top-p; token families).
            constraint: only sequences it accepts are drawn (token families). Each conditional is renormalised over the
                tokens that some legal sequence still has, which is not p(x | x is legal): mass that runs into places
                with few legal sequences stays there.
            known: frozen positions (batch, length), -1 where free (token families).

        Raises:
            ConfigError: a setting cannot be used.
            NotFiniteError: the network answered NaN or infinity; no token or value is made of that.
        """


class TokenFactorization(Factorization):
    """A factorization of a joint over tokens; it has a likelihood or a bound.

    Attributes:
        loss_scores: the loss is an unbiased draw of ``-log_prob``; False where training differs from evaluation.
        mixture: how many likelihoods ``log_prob`` averages.
    """

    discrete = True
    reads = "slots"
    exact: bool
    infills: str | None = "any"
    loss_scores: bool = True
    mixture: int = 1

    @abstractmethod
    def token_scores(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int,
    ) -> Tensor:
        """Return what each token adds to the log-likelihood or its bound, nats.

        Returns:
            Shape (draws, batch, length): ``samples`` independent unbiased draws, or one where nothing is random.
        """

    def token_log_probs(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 32,
    ) -> Tensor:
        """Return each token's share of ``log_prob``, shape (batch, length), nats.

        They sum to it, but for a mixture, whose logarithm has no such shares: there they sum to less.
        """
        check_codes(network.length, tokens, samples)
        return self.token_scores(network, tokens, context, generator=generator, samples=samples).mean(0)

    def log_prob(
        self,
        network: TokenNetwork,
        tokens: Tensor,
        context: Tensor,
        *,
        generator: torch.Generator,
        samples: int = 32,
    ) -> LogProb:
        """Return log p(tokens | context) per sequence, or its lower bound from ``samples`` Monte-Carlo draws.

        The standard error treats draws as independent: where they are stratified it errs on the large side.
        """
        check_codes(network.length, tokens, samples)
        draws = self.token_scores(network, tokens, context, generator=generator, samples=samples).sum(-1)
        error = torch.zeros_like(draws[0])
        if not self.exact:
            error = draws.std(0) / len(draws) ** 0.5 if len(draws) > 1 else error + float("inf")
        return LogProb(draws.mean(0), error)


@dataclass
class FactorizationConfig(Choice, ABC):
    """Settings of a factorization; ``build()`` makes it."""

    @abstractmethod
    def build(self) -> Factorization:
        """Make the factorization."""


def in_place_slots(network: TokenNetwork, tokens: Tensor, first: int = 0) -> Slots:
    """Return the slots in which every token, MASK where unknown, predicts its own position, from ``first`` on."""
    positions = torch.arange(first, first + tokens.shape[1], device=tokens.device).expand_as(tokens)
    return Slots(torch.where(tokens < 0, network.vocab_size, tokens), positions, positions)
