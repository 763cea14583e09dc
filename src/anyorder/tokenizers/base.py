"""The contract of a tokenizer: normalized action chunk <-> a fixed number of integer tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from anyorder.errors import ConfigError, DecodeError, UserError
from anyorder.factorization.constraint import TokenAutomaton
from anyorder.settings import Choice

MAX_VOCABULARY = 65_536
"""No tokenizer has more tokens: each of them costs the network an embedding and an output."""


class ActionTokenizer(nn.Module, ABC):
    """Maps chunks in [-1, 1] of shape (batch, horizon, action size) to tokens (batch, ``length``) and back.

    Everything that was fitted is a registered buffer, so it is saved with the policy's weights; ``spec()``
    holds the constructor's arguments, which fix the buffers' sizes.

    Attributes:
        horizon: time steps in a chunk.
        action_size: dimensions of an action.
        vocab_size: number of different tokens, END and PAD included where a tokenizer has them.
        length: tokens per chunk; shorter codes end with END and are filled with PAD.
        pad_token: the PAD token, or None where every code has full length.
        levels: tokens of each level of the code, coarsest first; None where it is not coarse to fine.
        digits: how many values each of the ordered numbers has that a token stands for, the fastest first:
            ``token = d_0 + n_0 (d_1 + n_1 (...))``; None where tokens have no order.
        symbols: how many different numbers there are where a token may stand for several in a row; the first tokens
            are one of them each. None elsewhere. See ``spelling``.
        max_rmse: the root mean square error over a chunk that decoding never exceeds where ``lossless``, in
            normalized units; None where nothing is promised (learned codes).
    """

    choice: ClassVar[str]
    horizon: int
    action_size: int
    vocab_size: int
    length: int
    pad_token: int | None = None
    levels: tuple[int, ...] | None = None
    digits: tuple[int, ...] | None = None
    symbols: int | None = None
    max_rmse: float | None = None

    @abstractmethod
    def encode(self, actions: Tensor) -> Tensor:
        """Turn chunks (batch, horizon, action size), float in [-1, 1] (clipped), into tokens (batch, length),
        int64.

        Raises:
            UserError: wrong shape, or a value that is not finite.
        """

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens (batch, length) into chunks (batch, horizon, action size), float32 in [-1, 1].

        Raises:
            DecodeError: a sequence is not legal (``constraint`` says which are).
        """

    @property
    def constraint(self) -> TokenAutomaton | None:
        """The legal sequences; None when every sequence is legal."""
        return None

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return the constructor's arguments, JSON-ready; ``type(self)(**spec)`` takes a saved state dict."""

    def lossless(self, actions: Tensor) -> Tensor:
        """Say which chunks are coded to the tokenizer's own precision: (batch,), bool.

        False where something beyond rounding was given up to make the chunk fit: a code cut short, a value
        clamped. Says nothing, and True, for codes that declare no error (``max_rmse`` None).
        """
        return torch.ones(len(self.check_chunks(actions)), dtype=torch.bool, device=actions.device)

    def token_features(self) -> Tensor | None:
        """Return numbers in which tokens of near meaning are near, (vocab_size, features), or None.

        One unit is one quantization step. A network may start its embeddings from them.
        """
        return None

    def spelling(self, longest: int) -> Tensor:
        """Return the first numbers that each token stands for, (vocab_size, longest) int64; -1 where it has fewer.

        Only tokenizers with ``symbols`` have it.
        """
        raise NotImplementedError(f"the tokens of {self.choice} are not spelled with numbers")

    def token_count(self, tokens: Tensor) -> Tensor:
        """Count the tokens of each code, END included and PAD not: (batch, length) -> (batch,)."""
        if self.pad_token is None:
            return tokens.new_full(tokens.shape[:1], self.length)
        return (tokens != self.pad_token).sum(-1)

    def check_chunks(self, actions: Tensor) -> Tensor:
        """Return chunks clipped to [-1, 1], at least float32, after checking them as ``encode`` promises."""
        if actions.ndim != 3 or actions.shape[1:] != (self.horizon, self.action_size):
            given = tuple(actions.shape)
            raise UserError("actions", given, f"shape (batch, {self.horizon}, {self.action_size})")
        return finite_chunks(actions)

    def check_tokens(self, tokens: Tensor) -> Tensor:
        """Return tokens as int64 after checking their shape, type and range; raises ``DecodeError``.

        Narrower integers would overflow where a tokenizer computes with them, and bytes index as masks do.
        """
        if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype is torch.bool:
            raise DecodeError("type of the tokens", str(tokens.dtype), "integers")
        tokens = tokens.long()
        if tokens.ndim != 2 or tokens.shape[1] != self.length:
            raise DecodeError("tokens", tuple(tokens.shape), f"shape (batch, {self.length})")
        outside = ((tokens < 0) | (tokens >= self.vocab_size)).any(1)
        if bool(outside.any()):
            row = int(outside.nonzero()[0])
            raise DecodeError(f"tokens, row {row}", tokens[row].tolist(), f"integers in [0, {self.vocab_size})")
        return tokens


@dataclass
class TokenizerConfig(Choice, ABC):
    """Settings of a tokenizer before it has seen data.

    Attributes:
        tokenizer: what they are settings of.
        dial: the setting that trades bits for error, a number that is larger where the code is finer; empty
            where there is none.
        dial_values: values of the dial that ``sweep`` visits.
    """

    tokenizer: ClassVar[type[ActionTokenizer]]
    dial: ClassVar[str] = ""
    dial_values: ClassVar[tuple[float, ...]] = ()

    @abstractmethod
    def fit(self, chunks: Tensor) -> ActionTokenizer:
        """Fit a tokenizer to normalized chunks (count, horizon, action size) in [-1, 1].

        Raises:
            ConfigError: a setting does not fit the chunks' shape.
        """

    def sweep(self) -> list[Self]:
        """Return settings from coarse to fine along the dial, these among them; all else stays.

        Without a dial these are the only ones. ``fit`` may still refuse some of them for given chunks.

        >>> [config.bins for config in TokenizerConfig.named("bins", bins=100).sweep()]
        [8, 16, 32, 64, 100, 128, 256, 512, 1024]
        """
        if not self.dial:
            return [self]
        values = sorted({*self.dial_values, getattr(self, self.dial)})
        return [replace(self, **{self.dial: value}) for value in values]

    def label(self) -> str:
        """Return where the dial stands, empty without one.

        >>> TokenizerConfig.named("bins").label()
        'bins=256'
        """
        return f"{self.dial}={getattr(self, self.dial):g}" if self.dial else ""

    @classmethod
    def load(cls, choice: str, spec: dict[str, Any]) -> ActionTokenizer:
        """Make an empty tokenizer of a kind and ``spec``, ready for ``load_state_dict``."""
        return cls.choices[choice].tokenizer(**spec)  # type: ignore[no-any-return]


def chunks_to_fit(chunks: Tensor) -> Tensor:
    """Return chunks to fit a tokenizer to, as ``finite_chunks`` does; there has to be one.

    Raises:
        UserError: as ``finite_chunks`` says, or no chunks.
    """
    chunks = finite_chunks(chunks)
    if len(chunks) == 0:
        raise ConfigError("chunks to fit to", 0, "at least 1")
    return chunks


def check_vocabulary(field: str, given: Any, size: int) -> None:
    """Raise a ``ConfigError`` where a setting asks for more tokens than ``MAX_VOCABULARY``."""
    if size > MAX_VOCABULARY:
        raise ConfigError(field, given, f"at most {MAX_VOCABULARY} tokens, not {size}")


def finite_chunks(chunks: Tensor) -> Tensor:
    """Return chunks (batch, horizon, action size) clipped to [-1, 1], at least float32.

    Raises:
        UserError: not three axes, an empty horizon or action, or a value that is not finite.
    """
    if chunks.ndim != 3 or 0 in chunks.shape[1:]:
        raise UserError("actions", tuple(chunks.shape), "shape (batch, horizon, action size)")
    # A sum is finite only if all its terms are: one quick pass, and a closer look where it is not.
    if not bool(chunks.sum().isfinite()):
        finite = torch.isfinite(chunks).flatten(1).all(1)
        if not bool(finite.all()):
            row = int((~finite).nonzero()[0])
            raise UserError(f"actions: chunk {row} holds NaN or infinity, allowed: finite values")
    return chunks.to(torch.promote_types(chunks.dtype, torch.float32)).clamp(-1, 1)
