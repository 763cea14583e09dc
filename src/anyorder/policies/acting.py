"""How a policy acts: it samples chunks, plays them action by action, and remembers what it saw."""

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, override

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from anyorder.factorization import Ensemble, Factorization, Request
from anyorder.factorization.guidance import Guided
from anyorder.factorization.repeated import repeated, sample_repeated
from anyorder.networks import ChunkNetwork, SlotNetwork
from anyorder.policies.checks import required
from anyorder.policies.codec import WITHIN, ActionCodec
from anyorder.policies.configuration_anyorder import AnyOrderConfig
from anyorder.policies.finite import check_finite
from anyorder.policies.observing import past
from anyorder.rollouts.blending import blended


class ActingPolicy(PreTrainedPolicy):
    """The half of ``AnyOrderPolicy`` that acts, and that says what an environment has to offer it.

    ``select_action`` keeps a queue of actions and past observations, as LeRobot asks of a policy. Our own rollouts keep
    theirs for each episode (``rollouts.rollout``), since the episodes of a batch end apart, and ask for whole chunks.

    Attributes:
        calls: running count of network calls made to predict chunks.
    """

    config_class = AnyOrderConfig
    name = "anyorder"
    config: AnyOrderConfig
    codec: ActionCodec
    factorization: Factorization
    calls: int = 0

    @abstractmethod
    def context(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Encode raw observations into context tokens (batch, context tokens, width)."""

    @property
    @abstractmethod
    def networks(self) -> list[SlotNetwork | ChunkNetwork]:
        """The network of each member; one, where the policy is no ensemble."""

    def manual_seed(self, seed: int) -> None:
        """Seed the sampling of actions."""
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    @override
    def reset(self) -> None:
        """Forget the queued actions and past observations; call it at the start of an episode."""
        self._queue: deque[Tensor] = deque(maxlen=self.config.n_action_steps)
        self._former: Tensor | None = None
        self._seen: deque[dict[str, Tensor]] = deque(maxlen=self.config.n_obs_steps)

    @override
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
        decode, rule = self.config.decode, self.config.decode.build_rule()
        networks: Sequence[Any] = self.networks
        guided = self.config.guidance != 1
        if guided:
            networks = [Guided(network, self.config.guidance, context.shape[-2]) for network in networks]
        request = Request(
            generator,
            temperature=self.config.temperature if rule is None else decode.temperature,
            nucleus=self.config.nucleus,
            point=decode.build_point(),
            constraint=None if self.tokenizer is None else self.tokenizer.constraint,
        )
        # Where nothing is drawn all samples are one.
        times = 1 if rule is None or self.factorization.deterministic else decode.samples
        if len(networks) > 1:
            sample = repeated(Ensemble(self.factorization, networks).sample, context, request, times)
        else:
            sample = sample_repeated(self.factorization, networks[0], context, request, times)
        # Guidance asks with and without the observation.
        self.calls += sample.calls * (2 if guided else 1)
        values = self.codec.values(sample.chunk)
        if rule is not None:
            values = rule(self.codec.bounded(values.unflatten(0, (len(context), times))))
        return self.codec.actions(values, batch)

    @override
    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """Return the next action (batch, action size), predicting a chunk when the queue is empty.

        With the setting ``blend`` it begins with a mixture of that chunk and the rest of the former.

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
            # Where no chunk can be had, its time passes, and the rest of the former is of other times.
            former, self._former = self._former, None
            chunk = self.predict_action_chunk(batch)
            if self.config.blend and former is not None:
                chunk = blended(chunk, former, self.config.blend)
            self._former = chunk[:, self.config.n_action_steps :]
            self._queue.extend(chunk[:, : self.config.n_action_steps].unbind(1))
        return self._queue.popleft()

    @property
    def n_action_steps(self) -> int:
        """How many actions of a chunk are executed."""
        return self.config.n_action_steps

    @property
    def blend(self) -> int:
        """How many first actions of a chunk are blended with the rest of the former chunk."""
        return self.config.blend

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
        return required(self.config)
