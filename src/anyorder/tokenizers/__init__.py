"""Tokenizers: normalized action chunk <-> a fixed number of integer tokens.

A tokenizer is chosen by name: ``TokenizerConfig.named("fast", scale=10.0).fit(chunks)``.
"""

from anyorder.settings import import_members
from anyorder.tokenizers.base import ActionTokenizer, TokenizerConfig

import_members(__name__, __path__)

__all__ = ["ActionTokenizer", "TokenizerConfig"]
