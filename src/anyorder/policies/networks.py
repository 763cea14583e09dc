"""The tokenizer and the network that a policy's factorization asks for."""

from anyorder.errors import ConfigError
from anyorder.factorization import Factorization
from anyorder.networks import ChunkNetwork, SlotNetwork
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.normalizer import limit_of
from anyorder.settings import TYPE_KEY
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig


def make_network(
    config: AnyOrderConfig, family: Factorization
) -> tuple[ActionTokenizer | None, SlotNetwork | ChunkNetwork]:
    """Make a tokenizer whose state is still to be loaded, and a network with fresh weights.

    Raises:
        ConfigError: the factorization models tokens, and the settings do not hold a fitted tokenizer's sizes.
    """
    trunk = config.network.build()
    if not family.discrete:
        limit = limit_of(config.normalization_mapping["ACTION"])
        return None, ChunkNetwork(trunk, config.chunk_size, config.action_size, limit=limit)
    if config.tokenizer_spec is None:
        raise ConfigError("tokenizer_spec", None, "that of a fitted tokenizer")
    tokenizer = TokenizerConfig.load(config.tokenizer[TYPE_KEY], config.tokenizer_spec)
    length, vocab = tokenizer.length, tokenizer.vocab_size
    if not family.draws_tokens:
        # Values that stand for tokens: the digits of their numbers.
        return tokenizer, ChunkNetwork(trunk, length, max(1, (vocab - 1).bit_length()), vocab)
    return tokenizer, SlotNetwork(trunk, length, vocab, tokenizer.levels)
