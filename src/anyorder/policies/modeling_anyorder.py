"""The policy: normalise, tokenise, factorise; raw observations in, raw actions out."""

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from torch import Tensor, nn

from anyorder.devices import check_device
from anyorder.errors import CheckpointError, ConfigError, DatasetError, DivergedError
from anyorder.factorization import LogProb, Request, TokenFactorization
from anyorder.factorization.guidance import Guided
from anyorder.factorization.noise import fractions, normals
from anyorder.factorization.precision import at_least_float32
from anyorder.networks import ChunkNetwork, ObservationEncoder, SlotNetwork
from anyorder.networks.encoder import key
from anyorder.policies.after_training import check_settings
from anyorder.policies.checks import check_dataset, check_progress, check_videos
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.finite import check_finite
from anyorder.policies.fitting import Fitted, fit_to_dataset, reference
from anyorder.policies.model_card import policy_card
from anyorder.policies.normalizer import Normalizer, limit_of
from anyorder.policies.observing import collect, past
from anyorder.policies.saved import POLICY_FILES, read_config, readable
from anyorder.policies.sizes import check_weights, weights_file
from anyorder.settings import TYPE_KEY
from anyorder.sums import check_sums, update_sums
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig
from anyorder.weights import check_state

WITHIN = "finite numbers, as observations near those of the training data give"

LOADING = ("force_download", "proxies", "token", "cache_dir", "local_files_only", "revision")
"""Of LeRobot's options of ``from_pretrained``, those that say where from."""


class AnyOrderPolicy(PreTrainedPolicy):
    """A policy over action chunks whose factorization is a setting.

    Everything it needs travels in its two files: normalisation and tokenizer are buffers of the weights. Observations
    and actions are raw, in the robot's units; LeRobot's processors only add the batch axis and move devices.

    Attributes:
        calls: running count of network calls made to predict chunks.
    """

    config_class = AnyOrderConfig
    name = "anyorder"
    config: AnyOrderConfig
    generate_model_card = policy_card

    def __init__(
        self, config: AnyOrderConfig, fitted: Fitted | None = None, dataset_meta: Any = None, **_: Any
    ) -> None:
        """Make the policy.

        Args:
            config: settings.
            fitted: normalisation and tokenizer of a new policy (``fitting.py``); without it the weights to be
                loaded hold them.
            dataset_meta: LeRobot's metadata of the dataset, which ``lerobot-train`` gives: a policy that was never
                fitted fits itself to all of its episodes that are on disk.
        """
        super().__init__(config)
        if dataset_meta is not None:
            allowed = "that of `anyorder train`, as lerobot-train does not tell a policy how far it is"
            check_progress(config.factorization_config().build(), allowed)
        if fitted is None and dataset_meta is not None:
            if config.pretrained_path is not None:
                check_dataset(config, dataset_meta)
            else:
                fitted = fit_to_dataset(config, dataset_meta)
            check_videos(config, Path(dataset_meta.root))
        config.validate_features()
        spec = config.observation_spec
        sizes = {**spec.vectors, **spec.clouds, ACTION: config.action_size}
        self.normalizers = nn.ModuleDict({key(name): Normalizer(size) for name, size in sizes.items()})
        self.factorization = config.factorization_config().build()
        self.encoder = ObservationEncoder(spec, config.network.width, config.encoder)
        self.tokenizer: ActionTokenizer | None = None
        trunk = config.network.build()
        self.network: SlotNetwork | ChunkNetwork
        if self.factorization.discrete:
            if config.tokenizer_spec is None:
                raise ConfigError("tokenizer_spec", None, "that of a fitted tokenizer")
            self.tokenizer = TokenizerConfig.load(config.tokenizer[TYPE_KEY], config.tokenizer_spec)
            length, vocab = self.tokenizer.length, self.tokenizer.vocab_size
            if self.factorization.reads == "values":
                # Values that stand for tokens: the digits of their numbers.
                self.network = ChunkNetwork(trunk, length, max(1, (vocab - 1).bit_length()), vocab)
            else:
                self.network = SlotNetwork(trunk, length, vocab, self.tokenizer.levels)
        else:
            limit = limit_of(config.normalization_mapping["ACTION"])
            self.network = ChunkNetwork(trunk, config.chunk_size, config.action_size, limit=limit)
            self.register_load_state_dict_post_hook(take_limit)
        self.factorization.check(self.network)
        if fitted is not None:
            self._adopt(fitted)
        self.register_load_state_dict_post_hook(lambda policy, _: check_state(policy))
        self.calls = 0
        self.manual_seed(0)
        self.reset()

    def _adopt(self, fitted: Fitted) -> None:
        """Take over what was fitted to data, and pretrained weights where they are wanted."""
        for name, normalizer in fitted.normalizers.items():
            self.normalizer(name).load_state_dict(normalizer.state_dict())
        take_limit(self)
        self.encoder.load_pretrained()
        if fitted.tokenizer is not None and self.tokenizer is not None:
            self.tokenizer.load_state_dict(fitted.tokenizer.state_dict())
            features = fitted.tokenizer.token_features()
            if features is not None and isinstance(self.network, SlotNetwork):
                self.network.place_tokens(features)

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
        folder = Path(pretrained_name_or_path)
        trained: PreTrainedConfig
        if folder.is_dir():
            check_sums(folder, error=CheckpointError)
            trained = read_config(folder)
        else:
            source = {name: options[name] for name in LOADING if name in options}
            trained = PreTrainedConfig.from_pretrained(pretrained_name_or_path, **source)
        if isinstance(config, AnyOrderConfig) and isinstance(trained, AnyOrderConfig):
            check_settings(config, trained)
        if config is not None:
            check_device(config.device)
        wanted = config = config or trained
        with readable(folder):
            file = weights_file(pretrained_name_or_path, options)
            if isinstance(wanted, AnyOrderConfig) and file is not None:
                check_weights(lambda: cls(wanted), file)
            return super().from_pretrained(pretrained_name_or_path, config=config, **options)

    def normalizer(self, feature: str) -> Normalizer:
        """Return the normaliser of a feature."""
        module = self.normalizers[key(feature)]
        assert isinstance(module, Normalizer)
        return module

    def manual_seed(self, seed: int) -> None:
        """Seed the sampling of actions."""
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def reset(self) -> None:
        """Forget the queued actions and past observations; call it at the start of an episode."""
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self._seen: deque[dict[str, Tensor]] = deque(maxlen=self.config.n_obs_steps)

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

        Args:
            batch: raw observations by name, (batch, ...) or, with a history, (batch, moments, ...); ``task``, a
                sentence a row, where language is read; ``<camera>_is_missing`` (batch,) where some rows lack one.
            noise: standard deviation of Gaussian noise added to vectors once normalised.
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
        if dropout:
            kept = fractions((len(encoded), 1, 1), device, generator) >= dropout
            encoded = encoded * kept
        return encoded

    def normalised(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the batch's action chunks relative to the state, where set, and normalised; shape as ``action``."""
        actions = batch[ACTION]
        if (
            self.config.action_size == 1 and actions.dim() == 2
        ):  # LeRobot's loader drops the axis of one number
            actions = actions.unsqueeze(-1)
        if actions.dtype == torch.bool:
            actions = actions.float()
        if actions.dim() > 3:  # of a table, as (arms, joints)
            actions = actions.flatten(2)
        wanted = (self.config.chunk_size, self.config.action_size)
        if actions.shape[1:] != wanted:
            allowed = f"{wanted}, as the policy was made for"
            raise DatasetError("action chunk", tuple(actions.shape[1:]), allowed)
        check_finite({ACTION: actions}, self.config.dimension_names)
        return self.normalizer(ACTION)(actions - reference(batch, self.config.action_reference))

    def chunk(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what the factorization models: tokens (batch, length), or the normalised chunks."""
        values = self.normalised(batch)
        return values if self.tokenizer is None else self.tokenizer.encode(values)

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
            check_progress(
                self.factorization, "how far training is, as forward(batch, progress=step / steps)"
            )
        generator = generator or default_generator(next(self.parameters()).device)
        noise, dropout = (
            (self.config.observation_noise, self.config.context_dropout) if self.training else (0, 0)
        )
        context = self.context(batch, noise, dropout, generator)
        loss = self.factorization.loss(
            self.network,
            self.chunk(batch),
            context,
            generator=generator,
            progress=1.0 if progress is None else progress,
        )
        mean = loss.mean()
        if not bool(mean.isfinite()):
            raise DivergedError("loss", mean.item(), "a finite number, as a lower learning rate gives")
        return (mean if reduction == "mean" else loss), {"loss": mean.item()}

    @torch.no_grad()
    def log_prob(self, batch: dict[str, Tensor], *, generator: torch.Generator, samples: int = 32) -> LogProb:
        """Return log p(chunk | observation) in nats per chunk, or its bound; token families only."""
        if not isinstance(self.factorization, TokenFactorization) or isinstance(self.network, ChunkNetwork):
            allowed = "a factorization of tokens, which has a likelihood"
            raise ConfigError("factorization", self.config.factorization[TYPE_KEY], allowed)
        tokens = self.chunk(batch)
        return self.factorization.log_prob(
            self.network, tokens, self.context(batch), generator=generator, samples=samples
        )

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """Draw chunks: raw observations {name: (batch, size)} -> raw actions (batch, chunk size, action size).

        Raises:
            NotFiniteError: an observation, or what became of it, is NaN or infinite.
        """
        self.eval()
        context = self.context(batch)
        check_finite({"encoded observation": context}, allowed=WITHIN)
        generator = self._generators.get(context.device)
        if generator is None:
            generator = torch.Generator(context.device).manual_seed(self._seed)
            self._generators[context.device] = generator
        network: Any = self.network
        names = self.config.dimension_names
        guided = self.config.guidance != 1
        if guided:
            network = Guided(self.network, self.config.guidance, context.shape[1])
        sample = self.factorization.sample(
            network,
            context,
            Request(
                generator,
                temperature=self.config.temperature,
                nucleus=self.config.nucleus,
                constraint=None if self.tokenizer is None else self.tokenizer.constraint,
            ),
        )
        # Guidance asks with and without the observation.
        self.calls += sample.calls * (2 if guided else 1)
        values = sample.chunk if self.tokenizer is None else self.tokenizer.decode(sample.chunk)
        normalizer = self.normalizer(ACTION)
        # Infinity is caught before it is clipped to an extreme that looks like an action.
        check_finite({"predicted chunk": values}, {"predicted chunk": names.get(ACTION, ())}, WITHIN)
        values = at_least_float32(values)
        actions = normalizer.inverse(values.clamp(-normalizer.limit, normalizer.limit))
        actions = actions + reference(batch, self.config.action_reference).to(actions)
        check_finite({ACTION: actions}, names, WITHIN)
        return actions

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """Return the next action (batch, action size), predicting a chunk when the queue is empty.

        Raises:
            NotFiniteError: an observation is NaN or infinite, also where an action is still queued; it is forgotten.
        """
        present = {name: batch[name] for name in self.config.observation_spec.names if name in batch}
        check_finite(present, self.config.dimension_names)
        self._seen.append(present)
        # A camera that was missing for a moment is shown as it is now.
        names = [name for name in self._seen[-1] if all(name in moment for moment in self._seen)]
        if not self._queue:
            if self.config.n_obs_steps > 1:
                batch = {**batch, **{name: past(self._seen, name, self.config.n_obs_steps) for name in names}}
            chunk = self.predict_action_chunk(batch)
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    @property
    def n_action_steps(self) -> int:
        """How many actions of a chunk are executed."""
        return self.config.n_action_steps

    @property
    def n_obs_steps(self) -> int:
        """How many moments are observed at once."""
        return self.config.n_obs_steps

    @property
    def action_size(self) -> int:
        """Dimensions of an action."""
        return self.config.action_size

    @property
    def fps(self) -> float | None:
        """Control rate of the training data in Hz."""
        return self.config.fps

    @property
    def required_features(self) -> dict[str, tuple[int, ...]]:
        """Shape of each observation the policy cannot do without, by name."""
        spec = self.config.observation_spec
        features = self.config.input_features or {}
        optional = spec.cameras if self.config.encoder.vision.dropout else ()
        return {name: tuple(features[name].shape) for name in spec.names if name not in optional}

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def take_limit(policy: nn.Module, _keys: object = None) -> None:
    """Tell a policy's network of values how large they are: the limit of its actions' normalisation."""
    assert isinstance(policy, AnyOrderPolicy)
    if isinstance(policy.network, ChunkNetwork) and not policy.factorization.discrete:
        policy.network.limit = float(policy.normalizer(ACTION).limit)


def default_generator(device: torch.device) -> torch.Generator:
    """Return torch's own generator of a device, which ``torch.manual_seed`` seeds; the CPU's for other than CUDA.

    What it draws is moved to the device.
    """
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
