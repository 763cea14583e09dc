"""The network all factorizations share: encoder -> trunk -> token or value slots."""

from anyorder.networks.encoder import EncoderConfig, ObservationEncoder, ObservationSpec
from anyorder.networks.heads import HeadConfig, OrdinalHead
from anyorder.networks.spelled_head import SpelledHead
from anyorder.networks.token_network import SlotNetwork
from anyorder.networks.transformer import Cache, Transformer, TransformerConfig
from anyorder.networks.value_network import ChunkNetwork
from anyorder.networks.vision import VisionConfig

__all__ = [
    "Cache",
    "ChunkNetwork",
    "EncoderConfig",
    "HeadConfig",
    "ObservationEncoder",
    "ObservationSpec",
    "OrdinalHead",
    "SlotNetwork",
    "SpelledHead",
    "Transformer",
    "TransformerConfig",
    "VisionConfig",
]
