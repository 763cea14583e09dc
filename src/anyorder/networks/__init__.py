"""The network all factorizations share: encoder -> trunk -> token or value slots."""

from anyorder.networks.encoder import EncoderConfig, ObservationEncoder
from anyorder.networks.heads import ChunkNetwork, SlotNetwork
from anyorder.networks.transformer import Cache, Transformer, TransformerConfig

__all__ = [
    "Cache",
    "ChunkNetwork",
    "EncoderConfig",
    "ObservationEncoder",
    "SlotNetwork",
    "Transformer",
    "TransformerConfig",
]
