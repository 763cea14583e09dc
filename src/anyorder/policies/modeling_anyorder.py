"""The policy: normalise, tokenise, factorise; raw observations in, raw actions out."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor, nn

from anyorder.errors import ConfigError, DatasetError, bad_value
from anyorder.factorization import LogProb, TokenFactorization
from anyorder.factorization.guidance import Guided
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
            length, vocab = self.tokenizer.length, self.tokenizer.vocab_size
            if self.factorization.reads == "values":
                # Values that stand for tokens: the digits of their numbers.
                self.network = ChunkNetwork(trunk, length, max(1, (vocab - 1).bit_length()), vocab)
            else:
                self.network = SlotNetwork(trunk, length, vocab, self.tokenizer.levels)
        else:
            self.network = ChunkNetwork(trunk, config.chunk_size, config.action_size)
        self.factorization.check(self.network)
        self.forwards = 0
        self.manual_seed(0)
        self.reset()

    @classmethod
    def fit(
        cls,
        config: AnyOrderConfig,
        statistics: Mapping[str, Mapping[str, np.ndarray]],
        batch: Mapping[str, Tensor],
        fps: float,
    ) -> Self:
        """Make a policy with normalisation and tokenizer fitted to data, and a fresh network.

        Args:
            config: settings; its ``tokenizer_spec`` and ``fps`` are filled in.
            statistics: exact statistics of each observation, by name.
            batch: every chunk to learn from, with its observations, in raw units: ``action`` (count, chunk size,
                action size) fixes the actions' normalisation and the tokenizer.
            fps: control rate of the data in Hz.
        """
        config.validate_features()
        config.fps = fps
        chunks = batch[ACTION] - reference(batch, config.action_reference)
        mode = config.normalization_mapping["ACTION"]
        normalizer = Normalizer(config.action_size).fit(describe(chunks), mode)
        tokenizer = None
        if config.factorization_config().build().discrete:
            if mode not in BOUNDED:
                allowed = ", ".join(m.value for m in BOUNDED) + ", as tokens need actions in [-1, 1]"
                raise ConfigError(bad_value("normalization_mapping.ACTION", mode.value, allowed))
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
            features = tokenizer.token_features()
            if features is not None and isinstance(policy.network, SlotNetwork):
                policy.network.place_tokens(features)
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

    def context(
        self,
        batch: Mapping[str, Tensor],
        noise: float = 0.0,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Encode raw observations {name: (batch, size)} into context tokens (batch, context tokens, width).

        ``noise`` is the standard deviation of Gaussian noise added to them once normalised, ``dropout`` the share of
        rows whose context is replaced by zeros.
        """
        missing = [name for name in self.config.vector_sizes if name not in batch]
        if missing:
            allowed = "all of " + ", ".join(self.config.vector_sizes)
            raise ConfigError(bad_value("observation without", missing, allowed))
        device = next(self.parameters()).device
        vectors = {name: self.normalizer(name)(batch[name].to(device)) for name in self.config.vector_sizes}
        if noise:
            for name, vector in vectors.items():
                drawn = torch.randn(vector.shape, generator=generator, device=device, dtype=vector.dtype)
                vectors[name] = vector + noise * drawn
        encoded: Tensor = self.encoder(vectors)
        if dropout:
            kept = torch.rand((len(encoded), 1, 1), generator=generator, device=device) >= dropout
            encoded = encoded * kept
        return encoded

    def normalised(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the batch's action chunks relative to the state, where set, and normalised; shape as ``action``."""
        actions = batch[ACTION]
        wanted = (self.config.chunk_size, self.config.action_size)
        if actions.shape[1:] != wanted:
            allowed = f"{wanted}, as the policy was made for"
            raise DatasetError(bad_value("action chunk", tuple(actions.shape[1:]), allowed))
        return self.normalizer(ACTION)(actions - reference(batch, self.config.action_reference))

    def chunk(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the factorization models: tokens (batch, length), or the normalised chunks."""
        values = self.normalised(batch)
        return values if self.tokenizer is None else self.tokenizer.encode(values)

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
        generator = generator or default_generator(next(self.parameters()).device)
        noise, dropout = (
            (self.config.observation_noise, self.config.context_dropout) if self.training else (0, 0)
        )
        context = self.context(batch, noise, dropout, generator)
        loss = self.factorization.loss(self.network, self.chunk(batch), context, generator=generator)
        mean = loss.mean()
        return (mean if reduction == "mean" else loss), {"loss": mean.item()}

    @torch.no_grad()
    def log_prob(self, batch: dict[str, Tensor], *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return log p(chunk | observation) in nats per chunk, or its bound; token families only."""
        if not isinstance(self.factorization, TokenFactorization) or isinstance(self.network, ChunkNetwork):
            allowed = "a factorization of tokens, which has a likelihood"
            raise ConfigError(bad_value("factorization", self.config.factorization, allowed))
        tokens = self.chunk(batch)
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
        network: Any = self.network
        guided = self.config.guidance != 1
        if guided:
            network = Guided(self.network, self.config.guidance, context.shape[1])
        sample = self.factorization.sample(
            network,
            context,
            generator=generator,
            temperature=self.config.temperature,
            nucleus=self.config.nucleus,
            constraint=None if self.tokenizer is None else self.tokenizer.constraint,
        )
        # Guidance asks with and without the observation.
        self.forwards += sample.forwards * (2 if guided else 1)
        values = sample.chunk if self.tokenizer is None else self.tokenizer.decode(sample.chunk)
        normalizer = self.normalizer(ACTION)
        actions = normalizer.inverse(values.to(context.dtype).clamp(-normalizer.limit, normalizer.limit))
        return actions + reference(batch, self.config.action_reference).to(actions)

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


def reference(batch: Mapping[str, Tensor], dimensions: list[int]) -> Tensor:
    """Return what each action is relative to: (batch, 1, action size), or a zero when all are absolute.

    Args:
        batch: raw observations.
        dimensions: for each action, the dimension of ``observation.state``, -1 for absolute.

    >>> reference({"observation.state": torch.tensor([[3.0, 4.0]])}, [1, -1])
    tensor([[[4., 0.]]])
    """
    if not dimensions:
        return torch.zeros(())
    index = torch.tensor(dimensions)
    state = batch[OBS_STATE]
    return torch.where(index.to(state.device) >= 0, state[:, index.clamp_min(0)], 0.0).unsqueeze(1)


def describe(chunks: Tensor) -> dict[str, np.ndarray]:
    """Return exact per-dimension statistics of chunks (count, chunk size, action size)."""
    values = chunks.flatten(0, 1).double().cpu().numpy()
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    named = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {**named, "q01": q01, "q99": q99}


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
