"""What is asked of a sampler, the code while it is drawn, and the sample that comes of it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anyorder.errors import NotFiniteError
from anyorder.factorization.categorical import draw, probabilities, uniforms
from anyorder.factorization.checks import UNKNOWN, check_finite, check_known, check_sampling, require
from anyorder.factorization.conditionals import Categorical, Conditionals
from anyorder.factorization.constraint import LegalTokens, TokenAutomaton
from anyorder.factorization.point_estimates import Point, nearest_token
from anyorder.factorization.precision import to_float64
from anyorder.factorization.slots import AskingNetwork


@dataclass(frozen=True)
class Request:
    """What a sample shall be.

    Attributes:
        generator: the only source of randomness; it may be on another device than the network.
        temperature: 1 samples the model, 0 takes the most likely token (token families).
        nucleus: only the most likely tokens that together have this probability are drawn (top-p; token families).
        constraint: only sequences it accepts are drawn (token families). Each conditional is renormalized over the
            tokens that some legal sequence still has, which is not p(x | x is legal): mass that runs into places with
            few legal sequences stays there.
        known: frozen positions: tokens (batch, length), ``UNKNOWN`` where free; for continuous families values
            (batch, horizon, action size), NaN where free.
        point: at temperature 0 a token is the nearest to this number of its law, where tokens are ordered numbers; None
            for the most likely token.

    Raises:
        ConfigError: temperature or nucleus cannot be used.
    """

    generator: torch.Generator
    temperature: float = 1.0
    nucleus: float = 1.0
    constraint: TokenAutomaton | None = None
    known: Tensor | None = None
    point: Point | None = None

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.nucleus)


@dataclass(frozen=True)
class Sample:
    """What a sampler drew, and what that cost.

    Attributes:
        chunk: tokens (batch, length), int64; for continuous families values (batch, horizon, action size).
        log_prob: sum of the log-conditionals the sampler drew from, at temperature 1 and without the constraint,
            shape (batch,), nats; None where the family defines none. Known positions do not count.
        calls: network calls, the context's prefill not counted (families that tell the network the noise level, as
            ``uniform_diffusion``, read the context anew at every call).
        slots: slots processed per sequence over all those calls.

    Raises:
        NotFiniteError: the chunk holds NaN or infinity; tokens have been checked where they were drawn.
    """

    chunk: Tensor
    log_prob: Tensor | None
    calls: int
    slots: int

    def __post_init__(self) -> None:
        if self.chunk.is_floating_point():
            check_finite(self.chunk, "the predicted chunk")


class Draft:
    """A code while it is drawn: tokens are drawn, kept and told to the automaton here alone.

    A position that holds a token keeps it, whether it was known from the start or has been drawn.

    Args:
        request: what is asked for.
        context: the encoded observation, one row a code.
        length: tokens in a code.
        vocab_size: number of tokens.

    Attributes:
        code: (batch, length), int64, ``UNKNOWN`` where free.
        legal: what may stand where; None for everything.
        log_prob: sum of what ``score`` was told, (batch,), nats; None where it was told nothing.
        calls: network calls made for it.
        slots: slots in those calls, per sequence.

    Raises:
        ConfigError: known positions hold no tokens, or no legal code has them.
    """

    def __init__(self, request: Request, context: Tensor, length: int, vocab_size: int) -> None:
        self.request = request
        self.generator = request.generator
        self.temperature, self.nucleus = request.temperature, request.nucleus
        self.point = request.point
        self.code = check_known(request.known, context, length, vocab_size)
        self.legal = None if request.constraint is None else LegalTokens(request.constraint, self.code)
        self.log_prob: Tensor | None = None
        self.calls = self.slots = 0

    def fill(
        self,
        positions: Tensor,
        answer: Conditionals,
        noise: Tensor | None = None,
        *,
        where: Tensor | None = None,
        scored: bool = False,
    ) -> Tensor:
        """Draw a legal token at one position of each row, unless one stands there.

        Args:
            positions: (batch,), int64.
            answer: what the network says of them, (batch,).
            noise: the uniforms to draw by, (batch,); fresh ones when None.
            where: rows to draw in, boolean (batch,); all when None.
            scored: the log-probabilities of what is drawn count.

        Returns:
            The tokens that now stand there, (batch,).
        """
        noise = uniforms((len(positions),), self.generator) if noise is None else noise
        legal = answer if self.legal is None else answer.restricted(self.legal.allowed_rows(positions))
        token = self._token(legal, noise)
        there = self.code.gather(1, positions.unsqueeze(1)).squeeze(1)
        kept = there >= 0 if where is None else (there >= 0) | ~where
        token = torch.where(kept, there, token)
        if scored:
            self.score(answer.log_prob(token.clamp_min(0)).masked_fill(kept, 0.0))
        if self.legal is not None:
            self.legal.place_rows(positions, token)
        self.code = self.code.scatter(1, positions.unsqueeze(1), token.unsqueeze(1))
        return token

    def fill_guessed(self, positions: Tensor, answer: Conditionals, noise: Tensor, guess: Tensor) -> tuple[int, Tensor]:
        """Fill positions that follow each other, as far as what was guessed of them proves right; they are scored.

        What the network says of a position takes the guesses before it for granted. So the first answer holds, and a
        later one where each guess before it, in all rows, is the token that is drawn there.

        Args:
            positions: in the order of the draws, (batch, asked), int64.
            answer: what the network says of them, (batch, asked).
            noise: the uniforms to draw by, (batch, asked).
            guess: the tokens that the network was given, (batch, asked).

        Returns:
            How many positions are filled, at least one; and what is drawn at all of them, (batch, asked): the tokens
            of those, and better guesses at the others, be they legal or not.
        """
        count, there = 0, self.code.gather(1, positions)
        if self.legal is None:
            drawn = torch.where(there < 0, self._token(answer, noise), there)
            right = int((drawn == guess).all(0).cumprod(0).sum())
            count = min(right + 1, guess.shape[1])
            tokens, where = drawn[:, :count], positions[:, :count]
            self.code = self.code.scatter(1, where, tokens)
            self.score(answer[:, :count].log_prob(tokens).masked_fill(there[:, :count] >= 0, 0.0).sum(1))
            return count, drawn
        columns: list[Tensor] = []
        while not columns or (count < guess.shape[1] and torch.equal(columns[-1], guess[:, count - 1])):
            columns.append(self.fill(positions[:, count], answer[:, count], noise[:, count], scored=True))
            count += 1
        others = self._token(answer[:, count:], noise[:, count:])
        return count, torch.cat([torch.stack(columns, 1), others], 1)

    def fill_part(
        self, first: int, marked: Tensor, answer: Conditionals, noise: Tensor | None = None, *, scored: bool = False
    ) -> None:
        """Draw at the marked positions of a part from one answer; each narrows what is legal for the next.

        Args:
            first: where the part begins in the code.
            marked: free positions, boolean (batch, part).
            answer: what the network says of the part, (batch, part).
            noise: the uniforms to draw by, (batch, part); fresh ones when None.
            scored: the log-probabilities of what is drawn count.
        """
        batch, size = marked.shape
        noise = uniforms((batch, size), self.generator) if noise is None else noise
        if self.legal is None:
            part = self.code[:, first : first + size].clone()
            part[marked] = self.draw(answer.marked(marked), marked, noise)
            self.put(first, part)
        else:
            self._fill_legal(first, marked, answer, noise)
        if scored:
            part = self.code[:, first : first + size].clamp_min(0)
            self.score((answer.log_prob(part) * marked).sum(-1))

    def _fill_legal(self, first: int, marked: Tensor, answer: Conditionals, noise: Tensor) -> None:
        """Draw at the marked positions of every row, from the first to the last."""
        count = marked.sum(-1)
        # The marked positions of each row, in order, before the others.
        places = torch.argsort((~marked).to(torch.uint8), dim=-1, stable=True)
        for k in range(int(count.max())):
            # Rows that have no more repeat their last one, which stands.
            last = torch.minimum(count - 1, count.new_tensor(k)).clamp_min(0)
            place = places.gather(1, last.unsqueeze(1)).squeeze(1)
            drawn_by = noise.gather(1, place.unsqueeze(1).to(noise.device)).squeeze(1)
            self.fill(first + place, answer.at(place), drawn_by, where=count > k)

    def fill_likeliest(self, scores: Tensor) -> None:
        """Fill what is free with the legal tokens of the highest scores (batch, length, vocabulary), left to right."""
        self.temperature, self.nucleus, self.point = 0.0, 1.0, None
        noise = torch.zeros(self.code.shape, device=scores.device)
        self.fill_part(0, self.code < 0, Categorical(scores), noise)

    def draw(self, answer: Conditionals, marked: Tensor, noise: Tensor) -> Tensor:
        """Draw from the conditionals of the marked positions, (count,), in their order; nothing is filled.

        Raises:
            NotFiniteError: names the rows of the batch, not of the conditionals.
        """
        try:
            return self._token(answer, noise[marked.to(noise.device)])
        except NotFiniteError as error:
            of_batch = marked.nonzero()[:, 0].tolist()
            raise NotFiniteError(str(error), rows=sorted({of_batch[row] for row in error.rows})) from error

    def _token(self, answer: Conditionals, noise: Tensor) -> Tensor:
        """Return a token of each conditional: drawn by ``noise``, or the request's point of its law."""
        if self.temperature > 0 or self.point is None:
            return draw(answer.logits, self.temperature, self.nucleus, noise)
        return nearest_token(answer.logits, self.numbers(answer), self.point)

    def law(self, answer: Conditionals) -> Tensor:
        """Return the probabilities by which a token of each conditional is drawn, (..., vocabulary), float64."""
        if self.temperature > 0 or self.point is None:
            return probabilities(answer.logits, self.temperature, self.nucleus)
        token = nearest_token(answer.logits, self.numbers(answer), self.point).unsqueeze(-1)
        none = torch.zeros_like(to_float64(answer.logits))
        return none.scatter(-1, token.to(none.device), 1.0)

    @staticmethod
    def numbers(answer: Conditionals) -> tuple[int, ...]:
        """Return the sizes of the tokens' digits.

        Raises:
            ConfigError: the tokens are no numbers.
        """
        allowed = "mode (None), as the network's answer is a softmax over tokens that are no ordered numbers"
        require(answer.sizes is not None, "point", "a number of each token's law", allowed)
        assert answer.sizes is not None
        return answer.sizes

    def put(self, first: int, part: Tensor) -> None:
        """Write tokens (batch, part) from position ``first`` on, whatever stands there and is legal."""
        self.code = torch.cat([self.code[:, :first], part, self.code[:, first + part.shape[1] :]], 1)

    def clear(self, first: int, again: Tensor) -> None:
        """Take the tokens back that ``again`` (batch, part) marks, from position ``first`` on."""
        part = self.code[:, first : first + again.shape[1]].masked_fill(again, UNKNOWN)
        self.put(first, part)
        if self.legal is not None and bool(again.any()):
            self.legal.place_part(first, part)

    def score(self, log_prob: Tensor) -> None:
        """Add log-probabilities (batch,), nats."""
        self.log_prob = log_prob if self.log_prob is None else self.log_prob + log_prob

    def sample(self) -> Sample:
        """Return the finished sample."""
        return Sample(self.code, self.log_prob, self.calls, self.slots)


class Counted(AskingNetwork):
    """A network whose calls and slots are added to a draft's ``calls`` and ``slots``."""

    def __init__(self, network: Any, draft: Any) -> None:
        super().__init__(network)
        self.draft = draft

    def __call__(self, asked: Any, *rest: Any, **options: Any) -> Any:
        """Count the slots, (tokens, positions, targets) or values, and pass on."""
        self.count(asked[0] if isinstance(asked, tuple) else asked)
        return self.network(asked, *rest, **options)

    def from_vectors(self, vectors: Tensor, cache: Any) -> Conditionals:
        """Count and pass on."""
        self.count(vectors)
        answer: Conditionals = self.network.from_vectors(vectors, cache)
        return answer

    def count(self, slots: Tensor) -> None:
        """Add one call with these slots, (batch, slots, ...)."""
        self.draft.calls += 1
        self.draft.slots += slots.shape[1]
