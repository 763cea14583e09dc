"""The tokenizer and the network that a policy's factorization asks for."""

from dataclasses import replace

from torch import nn

from anyorder.errors import ConfigError
from anyorder.factorization import Factorization, TokenFactorization
from anyorder.networks import ChunkNetwork, ObservationEncoder, OrdinalHead, SlotNetwork
from anyorder.networks.heads import HeadConfig
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.normalizer import limit_of
from anyorder.settings import TYPE_KEY
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig


class Member(nn.Module):
    """A further member of an ensemble: the encoder and the network that it has of its own."""

    def __init__(self, encoder: ObservationEncoder, network: SlotNetwork | ChunkNetwork) -> None:
        super().__init__()
        self.encoder = encoder
        self.network = network


def make_network(
    config: AnyOrderConfig, family: Factorization
) -> tuple[ActionTokenizer | None, SlotNetwork | ChunkNetwork]:
    """Make a tokenizer whose state is still to be loaded, and a network with fresh weights.

    Raises:
        ConfigError: the factorization models tokens, and the settings do not hold a fitted tokenizer's sizes; or it
            needs tokens that are numbers, and the tokenizer's are not.
    """
    trunk = config.network.build()
    if not family.discrete:
        limit = limit_of(config.normalization_mapping["ACTION"])
        return None, ChunkNetwork(trunk, config.chunk_size, config.action_size, limit=limit)
    if config.tokenizer_spec is None:
        raise ConfigError("tokenizer_spec", None, "that of a fitted tokenizer")
    tokenizer = TokenizerConfig.load(config.tokenizer[TYPE_KEY], config.tokenizer_spec)
    if family.needs_numbers and (tokenizer.digits is None or len(tokenizer.digits) != 1):
        allowed = "dct, bins, bspline or another each of whose tokens is one number: the noise moves to near ones"
        raise ConfigError("tokenizer", config.tokenizer[TYPE_KEY], allowed)
    length, vocab = tokenizer.length, tokenizer.vocab_size
    if not family.draws_tokens:
        # Values that stand for tokens: the digits of their numbers.
        return tokenizer, ChunkNetwork(trunk, length, max(1, (vocab - 1).bit_length()), vocab)
    head = None
    if config.head.distribution == "ordinal":
        assert tokenizer.digits is not None  # as ``resolved`` saw to
        head = OrdinalHead(trunk.config.width, length, tokenizer.digits, config.head.components)
    return tokenizer, SlotNetwork(trunk, length, vocab, tokenizer.levels, head)


def resolved(head: HeadConfig, family: Factorization, tokenizer: ActionTokenizer | None) -> HeadConfig:
    """Return a head's settings with ``auto`` decided by the family and the tokenizer.

    Raises:
        ConfigError: an ordinal head is asked for where it cannot be.
    """
    ordered = tokenizer is not None and tokenizer.digits is not None
    able = ordered and isinstance(family, TokenFactorization) and family.normalizes
    if head.distribution == "ordinal" and not able:
        allowed = "auto or categorical: " + (
            "this factorization reads more than a distribution from the network"
            if ordered
            else "this tokenizer's tokens are no ordered numbers, as those of dct, bins and bspline are"
        )
        raise ConfigError("head.distribution", head.distribution, allowed)
    return replace(head, distribution="ordinal" if able and head.distribution != "categorical" else "categorical")
