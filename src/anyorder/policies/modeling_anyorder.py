"""The policy: encode, factorize, decode; raw observations in, raw actions out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast, override

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.utils.constants import ACTION
from torch import Tensor, nn

from anyorder.devices import check_device, default_generator
from anyorder.errors import ConfigError, DivergedError
from anyorder.factorization import Ensemble, LogProb, TokenFactorization
from anyorder.factorization.noise import fractions, normals
from anyorder.factorization.teaching import Taught
from anyorder.networks import ChunkNetwork, ObservationEncoder, SlotNetwork
from anyorder.networks.encoder import key
from anyorder.policies.acting import ActingPolicy
from anyorder.policies.after_training import check_settings
from anyorder.policies.checks import check_progress
from anyorder.policies.codec import ActionCodec
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.fitting import Fitted, fit_or_check
from anyorder.policies.model_card import policy_card
from anyorder.policies.networks import EnsembleMember, lesson_of, make_network, resolved, start_from
from anyorder.policies.normalizer import Normalizer
from anyorder.policies.observing import collect
from anyorder.policies.saved import POLICY_FILES, readable, trained_config
from anyorder.policies.sizes import check_weights, weights_file
from anyorder.settings import TYPE_KEY
from anyorder.sums import update_sums
from anyorder.weights import check_state


class AnyOrderPolicy(ActingPolicy):
    """A policy over action chunks whose factorization is a setting.

    Everything it needs travels in its two files: normalization and tokenizer are buffers of the weights. Observations
    and actions are raw, in the robot's units; LeRobot's processors only add the batch axis and move devices.

    Attributes:
        codec: raw action chunks to what the factorization models, and back.
        factorization: the family.
        encoder: of the observations.
        network: the weights it asks.
        others: the other members of an ensemble, each with an encoder and a network.
    """

    generate_model_card = policy_card

    def __init__(
        self, config: AnyOrderConfig, fitted: Fitted | None = None, dataset_meta: Any = None, **_: Any
    ) -> None:
        """Make the policy.

        Args:
            config: settings, the policy's own from now on: what was fitted is added to them.
            fitted: normalization and tokenizer of a new policy (``fitting.py``); without it the weights to be
                loaded hold them.
            dataset_meta: LeRobot's metadata of the dataset, which ``lerobot-train`` gives: a policy that was never
                fitted fits itself to those of its episodes on disk that are trained on.
        """
        super().__init__(config)
        family = config.factorization_config().build()
        family.check_repeats(config.repeats)
        if dataset_meta is not None:
            fitted = fitted or fit_or_check(config, family, dataset_meta)
        if fitted is not None:
            fitted.facts.complete(config)
            config.head = resolved(config.head, family, fitted.codec.tokenizer)
        config.validate_features()
        spec = config.observation_spec
        sizes = {**spec.vectors, **spec.clouds, ACTION: config.action_size}
        self.normalizers = nn.ModuleDict({key(name): Normalizer(size) for name, size in sizes.items()})
        self.factorization = family
        self.encoder = ObservationEncoder(spec, config.network.width, config.encoder)
        self.tokenizer, self.network = make_network(config, family)
        self.lesson = lesson_of(config.head, family, self.tokenizer)
        # Members that there are not leave no trace in the weights.
        self.others = nn.ModuleList(
            EnsembleMember(
                ObservationEncoder(spec, config.network.width, config.encoder), make_network(config, family)[1]
            )
            for _ in range(config.ensemble - 1)
        )
        if not family.discrete:
            self.register_load_state_dict_post_hook(take_limit)
        family.check(self.network)
        self.codec = ActionCodec(
            config.action_reference, self.normalizer(ACTION), self.tokenizer, config.chunk_size, config.dimension_names
        )
        if fitted is not None:
            self._adopt(fitted)
        self.register_load_state_dict_post_hook(lambda policy, _: check_state(policy))
        self.manual_seed(0)
        self.reset()

    def _adopt(self, fitted: Fitted) -> None:
        """Take over what was fitted to data, and pretrained weights where they are wanted."""
        for name, normalizer in {**fitted.normalizers, ACTION: fitted.codec.normalizer}.items():
            self.normalizer(name).load_state_dict(normalizer.state_dict())
        take_limit(self)
        for encoder in self.encoders:
            encoder.load_pretrained()
        if fitted.codec.tokenizer is not None and self.tokenizer is not None:
            self.tokenizer.load_state_dict(fitted.codec.tokenizer.state_dict())
            for network in self.networks:
                start_from(network, fitted.codec.tokenizer, fitted.moments)

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write settings and weights, and their digests into ``SHA256SUMS``, unless a weight is not finite.

        Raises:
            CheckpointError: one is; what was saved before stays.
        """
        check_state(self)
        super()._save_pretrained(save_directory, state_dict)
        update_sums(save_directory, POLICY_FILES)

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **options: Any
    ) -> Self:
        """Load a policy as LeRobot does; its files are checked before anything is built from them.

        Args:
            pretrained_name_or_path: the folder, or the name on the hub.
            config: settings that may differ from the saved ones where the weights can follow.
            options: LeRobot's.

        Raises:
            ConfigError: settings differ in what training fixed; see ``after_training``. Or this machine lacks the
                device.
            CheckpointError: a file is damaged, the settings have sizes that the weights do not, or a weight or a
                buffer is not finite or makes no sense.
        """
        trained = trained_config(pretrained_name_or_path, options)
        if isinstance(config, AnyOrderConfig) and isinstance(trained, AnyOrderConfig):
            check_settings(config, trained)
        if config is not None:
            check_device(config.device)
        wanted = config = config or trained
        with readable(Path(pretrained_name_or_path)):
            file = weights_file(pretrained_name_or_path, options)
            if isinstance(wanted, AnyOrderConfig) and file is not None:
                check_weights(lambda: cls(wanted), file)
            return super().from_pretrained(pretrained_name_or_path, config=config, **options)

    def normalizer(self, feature: str) -> Normalizer:
        """Return the normalizer of a feature."""
        module = self.normalizers[key(feature)]
        assert isinstance(module, Normalizer)
        return module

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
        """Encode raw observations into context tokens (batch, context tokens, width).

        Those of an ensemble have an axis more: (batch, members, context tokens, width).

        Args:
            batch: raw observations by name, (batch, ...) or, with a history, (batch, moments, ...); ``task``, a
                sentence a row, where language is read; ``<camera>_is_missing`` (batch,) where some rows lack one.
            noise: standard deviation of Gaussian noise added to vectors once normalized.
            dropout: share of rows whose context is replaced by zeros.
            generator: source of noise, dropout and augmentation.
        """
        spec = self.config.observation_spec
        device = next(self.parameters()).device
        may_miss = self.config.encoder.vision.dropout > 0
        seen, gone = collect(batch, spec, device, may_miss, self.config.dimension_names)
        for name in [*spec.vectors, *spec.clouds]:
            seen[name] = self.normalizer(name)(seen[name].float())
            if noise and name in spec.vectors:
                seen[name] = seen[name] + noise * normals(seen[name].shape, seen[name], generator)
        tasks: Any = batch.get("task")
        encoded: Tensor = self.encoder(seen, tasks, gone, generator)
        if self.others:
            contexts = [encoded, *(encoder(seen, tasks, gone, generator) for encoder in self.encoders[1:])]
            encoded = torch.stack(contexts, 1)
        if dropout:
            kept = fractions((len(encoded), *(1,) * (encoded.dim() - 1)), device, generator) >= dropout
            encoded = encoded * kept
        return encoded

    def losses(self, code: Tensor, context: Tensor, *, generator: torch.Generator, progress: float = 1.0) -> Tensor:
        """Return the training loss of each chunk, (batch,): nats for token families, else the mean error per value.

        In training mode, what the head's settings add to the likelihood counts, too.

        Args:
            code: what ``codec.encode`` gives.
            context: the observations, encoded.
            generator: source of the loss's randomness, of which training makes as many draws as ``repeats`` says.
            progress: how far training is, from 0 to 1.
        """
        networks: list[Any] = list(self.networks)
        if self.training and self.lesson is not None:
            networks = [Taught(network, self.lesson) for network in networks]
        repeats = self.config.repeats if self.training else 1
        options: Any = {"generator": generator, "progress": progress, "repeats": repeats}
        if self.others:
            return Ensemble(self.factorization, networks).loss(code, context, **options)
        return self.factorization.repeated_loss(networks[0], code, context, **options)

    def forward(
        self,
        batch: dict[str, Tensor],
        reduction: str = "mean",
        generator: torch.Generator | None = None,
        progress: float | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the training loss: nats per chunk for token families, else the mean error per value.

        Args:
            batch: LeRobot's batch: raw observations (batch, size) and ``action`` (batch, chunk size, action size).
                Steps past the end of an episode hold its last action and are learnt like any other, so that all
                families model the same joint.
            reduction: ``mean`` for a scalar, ``none`` for one loss per chunk.
            generator: source of the loss's randomness; torch's own when None.
            progress: how far training is, from 0 to 1, for families that change what they learn along the way; the end
                of training when None.

        Raises:
            ConfigError: in training, such a family is not told how far training is.
            NotFiniteError: an observation or an action is NaN or infinite.
            DivergedError: the loss is.
        """
        if progress is None and self.training:
            check_progress(self.factorization, "how far training is, as forward(batch, progress=step / steps)")
        generator = generator or default_generator(next(self.parameters()).device)
        noise, dropout = (self.config.observation_noise, self.config.context_dropout) if self.training else (0, 0)
        context = self.context(batch, noise, dropout, generator)
        code = self.codec.encode(batch)
        loss = self.losses(code, context, generator=generator, progress=1.0 if progress is None else progress)
        if not bool((mean := loss.mean()).isfinite()):
            raise DivergedError("loss", mean.item(), "a finite number, as a lower learning rate gives")
        return (mean if reduction == "mean" else loss), {"loss": mean.item()}

    @torch.no_grad()
    def log_prob(self, batch: dict[str, Tensor], *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return log p(chunk | observation) in nats per chunk, or its bound; token families only."""
        code = self.codec.encode(batch)
        return self.code_log_prob(code, self.context(batch), generator=generator, samples=samples)

    def code_log_prob(self, code: Tensor, context: Tensor, *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return log p(code | context), as ``log_prob`` does, where both are ready made."""
        family, network = self.factorization, self.network
        if not isinstance(family, TokenFactorization) or isinstance(network, ChunkNetwork):
            allowed = "a factorization of tokens, which has a likelihood"
            raise ConfigError("factorization", self.config.factorization[TYPE_KEY], allowed)
        if self.others:
            return Ensemble(family, self.networks).log_prob(code, context, generator=generator, samples=samples)
        return family.log_prob(network, code, context, generator=generator, samples=samples)

    @property
    def encoders(self) -> list[ObservationEncoder]:
        """The encoder of each member."""
        return [self.encoder, *(cast(EnsembleMember, member).encoder for member in self.others)]

    @property
    @override
    def networks(self) -> list[SlotNetwork | ChunkNetwork]:
        """The network of each member."""
        return [self.network, *(cast(EnsembleMember, member).network for member in self.others)]

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def take_limit(policy: nn.Module, _keys: object = None) -> None:
    """Tell a policy's network of values how large they are: the limit of its actions' normalization."""
    assert isinstance(policy, AnyOrderPolicy)
    for network in policy.networks:
        if isinstance(network, ChunkNetwork) and not policy.factorization.discrete:
            network.limit = float(policy.normalizer(ACTION).limit)
