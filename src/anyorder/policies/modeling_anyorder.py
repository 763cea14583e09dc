"""The policy: normalise, tokenise, factorise; raw observations in, raw actions out."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor, nn

from anyorder.errors import ConfigError, DatasetError, bad_value
from anyorder.factorization import LogProb, TokenFactorization
from anyorder.networks import ChunkNetwork, ObservationEncoder, SlotNetwork
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.normalizer import Normalizer
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig


class AnyOrderPolicy(PreTrainedPolicy):
    """A policy over action chunks whose factorization is a setting.

    Everything it needs travels in its two files: normalisation and tokenizer are buffers of the weights. Observations
    and actions are raw, in the robot's units; LeRobot's processors only add the batch axis and move devices.

    Attributes:
        forwards: running count of network calls made to predict chunks.
    """

    config_class = AnyOrderConfig
    name = "anyorder"
    config: AnyOrderConfig

    def __init__(self, config: AnyOrderConfig, **_: Any) -> None:
        super().__init__(config)
        config.validate_features()
        sizes = {**config.vector_sizes, ACTION: config.action_size}
        self.normalizers = nn.ModuleDict(
            {buffer_name(name): Normalizer(size) for name, size in sizes.items()}
        )
        self.factorization = config.factorization_config().build()
        self.encoder = ObservationEncoder(config.vector_sizes, config.network.width, config.encoder)
        self.tokenizer: ActionTokenizer | None = None
        trunk = config.network.build()
        self.network: SlotNetwork | ChunkNetwork
        if self.factorization.discrete:
            if config.tokenizer_spec is None:
                raise ConfigError(
                    bad_value("tokenizer_spec", None, "a fitted tokenizer: use AnyOrderPolicy.fit")
                )
            self.tokenizer = TokenizerConfig.load(config.tokenizer, config.tokenizer_spec)
            self.network = SlotNetwork(trunk, self.tokenizer.length, self.tokenizer.vocab_size)
        else:
            self.network = ChunkNetwork(trunk, config.chunk_size, config.action_size)
        self.forwards = 0
        self.manual_seed(0)
        self.reset()

    @classmethod
    def fit(
        cls,
        config: AnyOrderConfig,
        statistics: Mapping[str, Mapping[str, np.ndarray]],
        chunks: Tensor,
        fps: float,
    ) -> Self:
        """Make a policy with normalisation and tokenizer fitted to data, and a fresh network.

        Args:
            config: settings; its ``tokenizer_spec`` and ``fps`` are filled in.
            statistics: exact statistics of each feature, by name.
            chunks: action chunks to fit the tokenizer to, (count, chunk size, action size), raw units.
            fps: control rate of the data in Hz.
        """
        config.validate_features()
        config.fps = fps
        normalizer = Normalizer(config.action_size).fit(
            statistics[ACTION], config.normalization_mapping["ACTION"]
        )
        tokenizer = None
        if config.factorization_config().build().discrete:
            if config.normalization_mapping["ACTION"] not in BOUNDED:
                allowed = ", ".join(mode.value for mode in BOUNDED) + ", as tokens need actions in [-1, 1]"
                raise ConfigError(
                    bad_value(
                        "normalization_mapping.ACTION", config.normalization_mapping["ACTION"].value, allowed
                    )
                )
            tokenizer = config.tokenizer_config().fit(normalizer(chunks))
            config.tokenizer_spec = tokenizer.spec()
        policy = cls(config)
        for name in config.vector_sizes:
            assert config.input_features is not None
            mode = config.normalization_mapping[config.input_features[name].type.value]
            policy.normalizer(name).fit(statistics[name], mode)
        policy.normalizer(ACTION).load_state_dict(normalizer.state_dict())
        if tokenizer is not None and policy.tokenizer is not None:
            policy.tokenizer.load_state_dict(tokenizer.state_dict())
        return policy

    def normalizer(self, feature: str) -> Normalizer:
        """Return the normaliser of a feature."""
        module = self.normalizers[buffer_name(feature)]
        assert isinstance(module, Normalizer)
        return module

    def manual_seed(self, seed: int) -> None:
        """Seed the sampling of actions."""
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def reset(self) -> None:
        """Forget the queued actions; call it at the start of an episode."""
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Return two groups: matrices, which decay, and embeddings, norms and biases, which do not."""
        decay: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                (decay if isinstance(module, nn.Linear) and name == "weight" else rest).append(parameter)
        return [{"params": decay}, {"params": rest, "weight_decay": 0.0}]

    def context(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Encode raw observations {name: (batch, size)} into context tokens (batch, context tokens, width)."""
        missing = [name for name in self.config.vector_sizes if name not in batch]
        if missing:
            allowed = "all of " + ", ".join(self.config.vector_sizes)
            raise ConfigError(bad_value("observation without", missing, allowed))
        device = next(self.parameters()).device
        vectors = {name: batch[name].to(device) for name in self.config.vector_sizes}
        return self.encoder({name: self.normalizer(name)(vector) for name, vector in vectors.items()})

    def chunk(self, actions: Tensor) -> Tensor:
        """Turn raw action chunks (batch, chunk size, action size) into what the factorization models."""
        if actions.shape[1:] != (self.config.chunk_size, self.config.action_size):
            given, wanted = tuple(actions.shape[1:]), (self.config.chunk_size, self.config.action_size)
            raise DatasetError(bad_value("action chunk", given, f"{wanted}, as the policy was made for"))
        normalised = self.normalizer(ACTION)(actions)
        return normalised if self.tokenizer is None else self.tokenizer.encode(normalised)

    def forward(
        self, batch: dict[str, Tensor], reduction: str = "mean", generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the training loss: nats per chunk for token families, else the mean error per value.

        Args:
            batch: LeRobot's batch: raw observations (batch, size) and ``action`` (batch, chunk size, action size).
                Steps past the end of an episode hold its last action and are learnt like any other, so that all
                families model the same joint.
            reduction: ``mean`` for a scalar, ``none`` for one loss per chunk.
            generator: source of the loss's randomness; torch's own when None.
        """
        context = self.context(batch)
        generator = generator or default_generator(context.device)
        loss = self.factorization.loss(self.network, self.chunk(batch[ACTION]), context, generator=generator)
        mean = loss.mean()
        return (mean if reduction == "mean" else loss), {"loss": mean.item()}

    @torch.no_grad()
    def log_prob(self, batch: dict[str, Tensor], *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return log p(chunk | observation) in nats per chunk, or its bound; token families only."""
        if not isinstance(self.factorization, TokenFactorization) or isinstance(self.network, ChunkNetwork):
            allowed = "a factorization of tokens, which has a likelihood"
            raise ConfigError(bad_value("factorization", self.config.factorization, allowed))
        tokens = self.chunk(batch[ACTION])
        return self.factorization.log_prob(
            self.network, tokens, self.context(batch), generator=generator, samples=samples
        )

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """Draw chunks: raw observations {name: (batch, size)} -> raw actions (batch, chunk size, action size)."""
        self.eval()
        context = self.context(batch)
        generator = self._generators.get(context.device)
        if generator is None:
            generator = torch.Generator(context.device).manual_seed(self._seed)
            self._generators[context.device] = generator
        sample = self.factorization.sample(
            self.network,
            context,
            generator=generator,
            temperature=self.config.temperature,
            constraint=None if self.tokenizer is None else self.tokenizer.constraint,
        )
        self.forwards += sample.forwards
        values = sample.chunk if self.tokenizer is None else self.tokenizer.decode(sample.chunk)
        normalizer = self.normalizer(ACTION)
        return normalizer.inverse(values.to(context.dtype).clamp(-normalizer.limit, normalizer.limit))

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """Return the next action (batch, action size), predicting a chunk when the queue is empty."""
        if not self._queue:
            chunk = self.predict_action_chunk(batch)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    @property
    def n_action_steps(self) -> int:
        """How many actions of a chunk are executed."""
        return self.config.n_action_steps

    @property
    def required_features(self) -> dict[str, tuple[int, ...]]:
        """Shape of each observation the policy reads, by name."""
        return {name: (size,) for name, size in self.config.vector_sizes.items()}

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


BOUNDED = (NormalizationMode.MIN_MAX, NormalizationMode.QUANTILES)


def buffer_name(feature: str) -> str:
    """Return a feature's name as a module name, which may hold no dots.

    >>> buffer_name("observation.state")
    'observation_state'
    """
    return feature.replace(".", "_")


def default_generator(device: torch.device) -> torch.Generator:
    """Return torch's own generator of a device, which ``torch.manual_seed`` seeds."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
