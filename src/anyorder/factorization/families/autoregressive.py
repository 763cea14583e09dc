"""Autoregression: the chain rule, in one order or several."""

import math
from dataclasses import dataclass
from typing import override

import torch
from torch import Tensor

from anyorder.errors import ConfigError
from anyorder.factorization.base import FactorizationConfig, LogProb, TokenFactorization
from anyorder.factorization.categorical import uniforms
from anyorder.factorization.chain import ChainReader, Queries, Shifted, causal
from anyorder.factorization.checks import check_codes, require
from anyorder.factorization.draft import Draft
from anyorder.factorization.orders import AnnealedOrders, FixedOrders, LeftToRight, Orders, RandomOrders, known_first
from anyorder.factorization.slots import TokenNetwork
from anyorder.settings import setting

CHEAP_SLOTS = 64
"""A call costs hardly more with that many slots than with one (``benchmarks/bench_decoding.py``)."""


class Autoregressive(TokenFactorization):
    """The chain rule in an order of the positions, one network call per token when sampling.

    Formula: ``log p(x | c) = sum_j log p(x[s(j)] | x[s(0)], ..., x[s(j-1)], c)`` in order s, exact. Slot j carries
    x[s(j-1)] (START for j = 0), sits at s(j-1), predicts s(j) and sees slots <= j, so training scores every
    conditional in one call.

    With ``queries`` it is the same factorization with another network: tokens sit in place and predict nothing, and a
    MASK at s(j) that sees those before it predicts s(j), as in masked diffusion, with two slots a token (the query
    stream of XLNet, arXiv 1906.08237). The shifted slots above are those of sigma-GPT, whose double position encoding
    says where a token sits and which one is next. The conditionals that either network can learn are the same.

    Left to right over DCT tokens it is FAST (arXiv 2501.09747); k fixed orders are arXiv 2507.15857 (section 3.5),
    annealed ones RAR (arXiv 2411.00776), fresh ones sigma-GPT (arXiv 2404.09562). Evaluated over several orders, the
    order is a latent variable: exactly, ``p(x) = mean_s p_s(x)``, where they can be listed, and by the bound
    ``mean_s log p_s(x)`` where not. Left out: sigma-GPT's burst sampling, as ``lookahead`` does its work.

    A call of sampling asks for several tokens (``lookahead``), all but the first given guesses; those that prove
    right are kept, the others are better guesses for the next call. The uniforms are drawn beforehand, so each token is
    a function of those before it, and the sample is that of token by token, but for rounding at near ties.

    Sampling asks with a key-value cache, and ``known`` positions go first. Left to right under a constraint it stops
    where every code has ended: only the tokens that fill are left, and one call scores them all.

    Args:
        orders: which orders are learnt.
        evaluation: which ones are scored and sampled.
        target_positions: slots say which position they predict. Without (the paper's k orders) the network has to
            infer the order from the positions read so far.
        token_masking: share of sequences in which the loss hides a random share of the past from every slot.
        queries: a MASK at each position predicts it, in place of the slot of the token before.
        lookahead: how many tokens one call of sampling asks for; all but the first are guessed, and checked. None: as
            many as make ``CHEAP_SLOTS`` over the batch.

    References:
        Pertsch et al., 2025: "FAST: Efficient Action Tokenization for Vision-Language-Action Models",
            arXiv 2501.09747.
        Prabhudesai et al., 2025: "Diffusion Beats Autoregressive in Data-Constrained Settings",
            arXiv 2507.15857.
        Yu et al., 2024: "Randomized Autoregressive Visual Generation", arXiv 2411.00776.
        Pannatier, Courdier and Fleuret, 2024: "Sigma-GPTs: A New Approach to Autoregressive Models",
            arXiv 2404.09562.
        Yang et al., 2019: "XLNet: Generalized Autoregressive Pretraining for Language Understanding",
            arXiv 1906.08237.
        Song, Meng, Liao and Ermon, 2021: "Accelerating Feedforward Computation via Parallel Nonlinear Equation
            Solving", arXiv 2002.03629.
        Wiggers and Hoogeboom, 2020: "Predictive Sampling with Forecasting Autoregressive Models", arXiv 2002.09928.

    >>> from anyorder.factorization import Request
    >>> from anyorder.testing.toy import TabularNetwork, context
    >>> network = TabularNetwork(length=3, vocab_size=3)
    >>> family = Autoregressive()
    >>> family.sample(network, context(2), Request(torch.Generator().manual_seed(0))).chunk
    tensor([[2, 0, 1],
            [2, 2, 2]])
    >>> family.log_prob(network, torch.tensor([[0, 1, 2]]), context(1), generator=torch.Generator()).value
    tensor([-2.4013], dtype=torch.float64)
    """

    def __init__(
        self,
        orders: Orders | None = None,
        evaluation: Orders | None = None,
        target_positions: bool = True,
        token_masking: float = 0.0,
        lookahead: int | None = None,
        queries: bool = False,
    ) -> None:
        self.orders = orders or LeftToRight()
        self.evaluation = evaluation or LeftToRight()
        self.target_positions = target_positions
        self.token_masking = token_masking
        self.queries = queries
        self.lookahead = lookahead
        every = self.evaluation.every(1)
        self.exact = every is not None
        self.mixture = 1 if every is None else len(every)
        self.infills = "any" if every is None else "prefix" if self.mixture == 1 else None
        self.loss_scores = self.orders == self.evaluation and self.mixture == 1 and not token_masking
        self.anneals = self.orders.anneals
        learnt = self.orders.every(1)
        self.random_loss = learnt is None or len(learnt) > 1 or token_masking > 0

    @override
    def calls(self, length: int) -> int:
        return length

    def order_log_probs(
        self, network: TokenNetwork, code: Tensor, context: Tensor, order: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """Return log p(x_i | tokens before i in ``order``, c) for each position i, shape (batch, length), nats.

        Args:
            network: the network to ask.
            code: codes (batch, length).
            context: encoded observation.
            order: the position that comes j-th, (batch, length).
            visible: which rank sees which, as ``ChainReader.ask`` takes it; all up to themselves when None.
        """
        answer = self.reader(network, context, order).ask(code, 0, code.shape[1], visible)
        scores = answer.log_prob(code.gather(1, order))
        return torch.zeros_like(scores).scatter(1, order, scores)

    def reader(self, network: TokenNetwork, context: Tensor, order: Tensor) -> ChainReader:
        """Return what asks the network about codes in ``order`` (batch, length)."""
        if self.queries:
            return Queries(network, context, order)
        return Shifted(network, context, order, self.target_positions)

    @override
    def loss(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0
    ) -> Tensor:
        require(0 <= progress <= 1, "progress", progress, "a number from 0 to 1")
        batch, length = code.shape
        order = self.orders.draw(batch, length, generator, progress).to(code.device)
        visible = None
        if self.token_masking:
            visible = hide_past(self.token_masking, batch, length, generator).to(code.device)
        return -self.order_log_probs(network, code, context, order, visible).sum(-1)

    @override
    def token_scores(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int
    ) -> Tensor:
        """Return each token's log-conditional in every order of the evaluation, or in ``samples`` drawn ones."""
        every = self.evaluation.every(code.shape[1])
        if every is None:
            drawn = [self.evaluation.draw(len(code), code.shape[1], generator) for _ in range(samples)]
            orders = [order.to(code.device) for order in drawn]
        else:
            orders = [order.to(code.device).expand_as(code) for order in every]
        return torch.stack([self.order_log_probs(network, code, context, order) for order in orders])

    @override
    def log_prob(
        self, network: TokenNetwork, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int = 32
    ) -> LogProb:
        """Return the exact log-likelihood, of the mixture where there are several orders; else its bound."""
        check_codes(network.length, code, samples)
        if not self.exact:
            return super().log_prob(network, code, context, generator=generator, samples=samples)
        scores = self.token_scores(network, code, context, generator=generator, samples=samples).sum(-1)
        value = torch.logsumexp(scores, 0) - math.log(len(scores))
        return LogProb(value, torch.zeros_like(value))

    @override
    def _sample(self, network: TokenNetwork, context: Tensor, draft: Draft) -> None:
        batch, length = draft.code.shape
        ahead = self.lookahead or max(1, CHEAP_SLOTS // batch)
        order = self.evaluation.draw(batch, length, draft.generator).to(context.device)
        if draft.request.known is not None:
            order = self.frozen_first(order, draft.code)
        # All draws beforehand, so that a token depends on those before it alone, whatever was guessed.
        noise = torch.stack([uniforms((batch,), draft.generator) for _ in range(length)], 1)
        guess = torch.where(draft.code < 0, network.vocab_size, draft.code)
        reader = self.reader(network, context, order)
        done = 0
        while done < length:
            if done and draft.legal is not None and self.evaluation == LeftToRight():
                ending = draft.legal.ended(done)
                if ending is not None:
                    self.fill_rest(reader, draft, ending.unsqueeze(1).expand(-1, length - done))
                    return
            end = min(done + ahead, length)
            answer, asked = reader.ask(guess, done, end), order[:, done:end]
            right, drawn = draft.fill_guessed(asked, answer, noise[:, done:end], guess.gather(1, asked))
            guess = guess.scatter(1, asked, drawn)
            done += right

    def fill_rest(self, reader: ChainReader, draft: Draft, rest: Tensor) -> None:
        """Fill all codes up with tokens (batch, left) that are the only ones legal: one call scores them all."""
        length = draft.code.shape[1]
        first = length - rest.shape[1]
        kept = draft.code[:, first:] >= 0
        draft.put(first, rest)
        answer = reader.ask(draft.code, first, length)
        for score in answer.log_prob(rest).masked_fill(kept, 0.0).unbind(1):
            draft.score(score)

    def frozen_first(self, order: Tensor, known: Tensor) -> Tensor:
        """Return orders that begin with the frozen positions.

        Raises:
            ConfigError: the orders are fixed, and ``known`` is no prefix of them.
        """
        moved = known_first(order, known)
        if self.exact and not torch.equal(moved, order):
            allowed = "a prefix of the order, or random orders"
            raise ConfigError("known", "positions with gaps", allowed)
        return moved


def hide_past(share: float, batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Return causal visibility (batch, length, length) with random gaps; every slot still sees itself.

    In a ``share`` of the sequences each edge to the past is hidden with a chance that is uniform on [0, 1] per sequence
    (the token masking of arXiv 2507.15857, section 3.5).
    """
    chosen = uniforms((batch, 1, 1), generator) < share
    rate = uniforms((batch, 1, 1), generator)
    hidden = chosen & (uniforms((batch, length, length), generator) < rate)
    own = torch.eye(length, dtype=torch.bool, device=hidden.device)
    return causal(length, hidden.device) & (~hidden | own)


ORDERS = ("left_to_right", "fixed", "random", "annealed")


@dataclass
class AutoregressiveConfig(FactorizationConfig, choice="autoregressive"):
    """Autoregression in one order or several."""

    family = Autoregressive

    orders: str = setting(
        "left_to_right",
        "Which orders are learned: left_to_right, fixed (k of them), random (a fresh one per sequence) or annealed "
        "(random, then left to right).",
        among=ORDERS,
    )
    k: int = setting(1, "How many fixed orders, the first of which is left to right.", least=1, most=64)
    jitter: str = setting(
        "local", "How the fixed orders other than the first are drawn: uniform or local.", among=("uniform", "local")
    )
    ensemble: bool = setting(False, "Score and sample over all orders learned instead of left to right.")
    target_positions: bool = setting(True, "Tell the network which position comes next; random orders need it.")
    token_masking: float = setting(
        0.0, "Share of training sequences that lose a random part of their past.", least=0, most=1
    )
    queries: bool = setting(
        False,
        "A MASK at each position predicts it, as in masked diffusion, in place of the slot of the token before: two "
        "slots a token.",
    )
    lookahead: int | None = setting(
        None,
        "How many tokens one call of sampling asks for: all but the first are guessed and checked, which gives the "
        f"same sample in fewer calls. null: {CHEAP_SLOTS}, divided by the chunks drawn together.",
        least=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.k == 1 or self.orders == "fixed", "k", self.k, "1, unless orders=fixed")
        positions = self.target_positions or self.orders in ("left_to_right", "fixed")
        require(positions, "target_positions", False, f"true, for orders={self.orders}: see RAR")
        silent = self.queries and not self.target_positions
        require(not silent, "target_positions", False, "true, with queries, which sit where they predict")
        annealed = self.ensemble and self.orders == "annealed"
        require(not annealed, "ensemble", True, "false, as annealed orders end left to right")

    def build(self) -> Autoregressive:
        """Make the factorization."""
        fixed = FixedOrders(self.k, self.jitter == "local")
        kinds: tuple[Orders, ...] = (LeftToRight(), fixed, RandomOrders(), AnnealedOrders())
        orders = dict(zip(ORDERS, kinds, strict=True))[self.orders]
        evaluation = orders if self.ensemble else LeftToRight()
        return Autoregressive(
            orders, evaluation, self.target_positions, self.token_masking, self.lookahead, self.queries
        )
