"""The contract of a tokenizer: normalised action chunk <-> a fixed number of integer tokens."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from anyorder.choices import Choice
from anyorder.factorization.constraint import TokenAutomaton


class ActionTokenizer(nn.Module, ABC):
    """Maps chunks in [-1, 1] of shape (batch, horizon, action size) to tokens (batch, ``length``) and back.

    Everything that was fitted is a registered buffer, so it is saved with the policy's weights; ``spec()`` holds the
    constructor's arguments, which fix the buffers' sizes.

    Attributes:
        horizon: time steps in a chunk.
        action_size: dimensions of an action.
        vocab_size: number of different tokens, END and PAD included where a tokenizer has them.
        length: tokens per chunk; shorter codes end with END and are filled with PAD.
        pad_token: the PAD token, or None where every code has full length.
    """

    choice: ClassVar[str]
    horizon: int
    action_size: int
    vocab_size: int
    length: int
    pad_token: int | None = None

    @abstractmethod
    def encode(self, actions: Tensor) -> Tensor:
        """Turn chunks (batch, horizon, action size), float in [-1, 1] (clipped), into tokens (batch, length), int64."""

    @abstractmethod
    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens (batch, length) into chunks (batch, horizon, action size) in [-1, 1].

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

    def token_count(self, tokens: Tensor) -> Tensor:
        """Count the tokens of each code, END included and PAD not: (batch, length) -> (batch,)."""
        if self.pad_token is None:
            return tokens.new_full(tokens.shape[:1], self.length)
        return (tokens != self.pad_token).sum(-1)


@dataclass
class TokenizerConfig(Choice, ABC):
    """Settings of a tokenizer before it has seen data."""

    tokenizer: ClassVar[type[ActionTokenizer]]

    @abstractmethod
    def fit(self, chunks: Tensor) -> ActionTokenizer:
        """Fit a tokenizer to normalised chunks (count, horizon, action size) in [-1, 1].

        Raises:
            ConfigError: a setting does not fit the chunks' shape.
        """

    @classmethod
    def load(cls, choice: str, spec: dict[str, Any]) -> ActionTokenizer:
        """Make an empty tokenizer of a kind and ``spec``, ready for ``load_state_dict``."""
        return cls.choices[choice].tokenizer(**spec)  # type: ignore[no-any-return]
