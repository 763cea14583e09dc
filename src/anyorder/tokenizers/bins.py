"""Uniform bins: one token per action value, as in RT-1.

Brohan et al., RT-1: Robotics Transformer for Real-World Control at Scale, 2022, arXiv 2212.06817.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, override

import torch
from torch import Tensor

from anyorder.settings import setting
from anyorder.tokenizers.base import MAX_VOCABULARY, ActionTokenizer, TokenizerConfig, finite_chunks


class BinsTokenizer(ActionTokenizer):
    """Cuts [-1, 1] into equal bins; a token is a bin's number and decodes to the bin's middle.

    ``token = floor((x + 1) / 2 * bins)`` and ``x' = (token + 1/2) * 2 / bins - 1``, which errs by at most
    ``1 / bins``. RT-1 truncates ``(x + 1) / 2 * (bins - 1)`` and decodes to the level below, which errs by up
    to ``2 / (bins - 1)`` and always downwards; rounding to those levels would still err by up to
    ``1 / (bins - 1)``. The price of middles: -1 and 1 themselves come back ``1 / bins`` short.

    Tokens are in order of time, dimensions innermost; all have the same length, so there is no END and no
    PAD.

    >>> tokenizer = BinsTokenizer(horizon=1, action_size=3, bins=4)
    >>> tokens = tokenizer.encode(torch.tensor([[[-1.0, 0.1, 1.0]]]))
    >>> tokens, tokenizer.decode(tokens)
    (tensor([[0, 2, 3]]), tensor([[[-0.7500,  0.2500,  0.7500]]]))
    """

    choice = "bins"

    def __init__(self, horizon: int, action_size: int, bins: int) -> None:
        super().__init__()
        self.horizon = horizon
        self.action_size = action_size
        self.vocab_size = bins
        self.digits = (bins,)
        self.length = horizon * action_size
        self.max_rmse = 1 / bins

    @override
    def encode(self, actions: Tensor) -> Tensor:
        unit = (self.check_chunks(actions).flatten(1) + 1) / 2
        return (unit * self.vocab_size).to(torch.int64).clamp_max(self.vocab_size - 1)

    @override
    def decode(self, tokens: Tensor) -> Tensor:
        values = (self.check_tokens(tokens).float() + 0.5) * (2 / self.vocab_size) - 1
        return values.view(-1, self.horizon, self.action_size)

    @override
    def token_features(self) -> Tensor:
        """Return the number of each bin, (vocab_size, 1)."""
        return torch.arange(self.vocab_size, dtype=torch.float32).unsqueeze(-1)

    @override
    def spec(self) -> dict[str, Any]:
        return {"horizon": self.horizon, "action_size": self.action_size, "bins": self.vocab_size}


@dataclass
class BinsConfig(TokenizerConfig, choice="bins"):
    """Settings of ``BinsTokenizer``."""

    tokenizer: ClassVar[type[ActionTokenizer]] = BinsTokenizer
    dial = "bins"
    dial_values = (8, 16, 32, 64, 128, 256, 512, 1024)

    bins: int = setting(256, "Bins per value; RT-1 has 256.", least=2, most=MAX_VOCABULARY)

    @override
    def fit(self, chunks: Tensor) -> BinsTokenizer:
        """Make the tokenizer for the chunks' shape (count, horizon, action size); nothing is learnt.

        >>> BinsConfig().fit(torch.zeros(10, 16, 6)).length
        96
        """
        _, horizon, action_size = finite_chunks(chunks).shape
        return BinsTokenizer(horizon, action_size, self.bins)
