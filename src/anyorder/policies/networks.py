"""The tokenizer and the network that a policy's factorization asks for."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from anyorder.errors import ConfigError
from anyorder.factorization import Factorization, TokenFactorization
from anyorder.factorization.teaching import Lesson
from anyorder.networks import ChunkNetwork, ObservationEncoder, OrdinalHead, SlotNetwork, SpelledHead
from anyorder.networks.heads import EXPECTED_L1, HeadConfig
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.normalizer import limit_of
from anyorder.settings import TYPE_KEY
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig

NUMBERS = ("ordinal", "mixture")
"""Distributions of a head that need tokens that are ordered numbers."""

SPELLED_NUMBERS = 3
"""A spelled head looks at that many numbers of a token; longer tokens are mostly runs of zeros."""


class EnsembleMember(nn.Module):
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
    head: OrdinalHead | SpelledHead | None = None
    width, components = trunk.config.width, config.head.components
    if config.head.distribution in NUMBERS:
        assert tokenizer.digits is not None  # as ``resolved`` saw to
        head = OrdinalHead(width, length, tokenizer.digits, components)
    elif config.head.distribution == "spelled":
        assert tokenizer.symbols is not None  # likewise
        head = SpelledHead(width, length, tokenizer.symbols, vocab, SPELLED_NUMBERS, components)
    mixed = config.head.distribution == "mixture"
    return tokenizer, SlotNetwork(trunk, length, vocab, tokenizer.levels, head, mixed)


@torch.no_grad()
def start_from(network: nn.Module, tokenizer: ActionTokenizer, moments: tuple[Tensor, Tensor] | None) -> None:
    """Start a fresh network from what was fitted: embeddings from near tokens, a head from how the codes' numbers vary.

    Args:
        network: one of values is left as it is.
        tokenizer: fitted.
        moments: mean and standard deviation of each number at each position of the codes; None where tokens have none.
    """
    if not isinstance(network, SlotNetwork):
        return
    if (features := tokenizer.token_features()) is not None:
        network.place_tokens(features)
    if network.head is not None and moments is not None:
        network.head.place(*moments)
    if isinstance(network.head, SpelledHead):
        network.head.spell(tokenizer.spelling(SPELLED_NUMBERS))


def resolved(head: HeadConfig, family: Factorization, tokenizer: ActionTokenizer | None) -> HeadConfig:
    """Return a head's settings with what they leave open decided by the family and the tokenizer.

    Raises:
        ConfigError: an ordinal head, or a mixture with one, is asked for where it cannot be.
    """
    reason = why_no_numbers(family, tokenizer)
    if head.distribution in NUMBERS and reason:
        raise ConfigError("head.distribution", head.distribution, f"auto or categorical: {reason}")
    if head.distribution == "spelled" and (tokenizer is None or tokenizer.symbols is None or not normalizes(family)):
        allowed = "auto, but with tokenizer=fast and a factorization that reads distributions from the network"
        raise ConfigError("head.distribution", head.distribution, allowed)
    if head.distribution == "auto":
        head = replace(head, distribution="categorical" if reason else "ordinal")
    if head.expected_l1 is None:
        head = replace(head, expected_l1=EXPECTED_L1 if head.distribution == "ordinal" else 0.0)
    return head


def lesson_of(head: HeadConfig, family: Factorization, tokenizer: ActionTokenizer | None) -> Lesson | None:
    """Return what the training loss adds to the likelihood; None where nothing.

    Raises:
        ConfigError: it has to add something, but the tokens are no numbers.
    """
    reason = why_no_numbers(family, tokenizer)
    for name in ("soft_targets", "expected_l1"):
        if getattr(head, name) and reason:
            raise ConfigError(f"head.{name}", getattr(head, name), f"0: {reason}")
    if tokenizer is None or tokenizer.digits is None or not (head.soft_targets or head.expected_l1):
        return None
    return Lesson(tokenizer.digits, head.soft_targets, head.soft_width, head.expected_l1 or 0.0)


def why_no_numbers(family: Factorization, tokenizer: ActionTokenizer | None) -> str:
    """Return why a network's answers cannot be distributions over numbers; empty where they can."""
    if tokenizer is None or tokenizer.digits is None:
        return "this tokenizer's tokens are no ordered numbers, as those of dct, bins and bspline are"
    return "" if normalizes(family) else "this factorization reads more than a distribution from the network"


def normalizes(family: Factorization) -> bool:
    """Return whether a factorization reads nothing but normalized distributions from the network."""
    return isinstance(family, TokenFactorization) and family.normalizes
