"""The codec of actions: raw chunks to what a factorization models, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from lerobot.configs import NormalizationMode
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from anyorder.errors import ConfigError, DatasetError
from anyorder.factorization.precision import at_least_float32
from anyorder.policies.finite import check_finite
from anyorder.policies.normalizer import Normalizer
from anyorder.tokenizers import ActionTokenizer, TokenizerConfig

BOUNDED = (NormalizationMode.MIN_MAX, NormalizationMode.QUANTILES)
"""Modes of normalization that bring actions into [-1, 1], which tokenizers need."""

WITHIN = "finite numbers, as observations near those of the training data give"
"""What a message allows where a policy was led to NaN or infinity."""


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """Maps raw action chunks to codes, ``tokenizer(normalizer(actions - reference(state)))``, and codes back.

    Without a tokenizer, as continuous factorizations have none, a normalized chunk stands in the place of a code. The
    buffers of both parts are those of the policy that owns the codec, and travel in its weights.

    Attributes:
        reference: for each action, the dimension of ``observation.state`` it is relative to, -1 for absolute; empty
            where all are absolute.
        normalizer: of the (relative) actions.
        tokenizer: of normalized chunks; None for continuous factorizations.
        horizon: time steps of a chunk.
        names: of the dimensions of each feature, for messages.

    >>> chunks = torch.linspace(-1, 1, 160).view(20, 4, 2)
    >>> bins = TokenizerConfig.named("bins")
    >>> codec = ActionCodec.fit({"action": chunks}, 4, NormalizationMode.MIN_MAX, bins)
    >>> code = codec.encode({"action": chunks})
    >>> tuple(code.shape), bool((codec.decode(code, {}) - chunks).abs().max() < 0.005)
    ((20, 8), True)
    """

    reference: Sequence[int]
    normalizer: Normalizer
    tokenizer: ActionTokenizer | None
    horizon: int
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        batch: Mapping[str, Tensor],
        horizon: int,
        mode: NormalizationMode,
        tokenizer: TokenizerConfig | None,
        reference: Sequence[int] = (),
    ) -> Self:
        """Fit a codec to action chunks.

        Args:
            batch: all chunks to learn from, raw: ``action`` (count, horizon, action size); where actions are relative,
                ``observation.state``, too.
            horizon: time steps of a chunk.
            mode: of normalization.
            tokenizer: its settings; None for none.
            reference: as of the codec.

        Raises:
            ConfigError: tokens need bounded actions, which ``mode`` does not give.
        """
        chunks = batch[ACTION].view(len(batch[ACTION]), horizon, -1) - origin(batch, reference)
        normalizer = Normalizer(chunks.shape[-1]).fit(describe(chunks), mode)
        if mode is NormalizationMode.IDENTITY:
            # Not normalized they still have a reach, at which diffusion clips what it predicts from pure noise.
            normalizer.limit.fill_(chunks.abs().max())
        if tokenizer is None:
            return cls(reference, normalizer, None, horizon)
        if mode not in BOUNDED:
            allowed = ", ".join(m.value for m in BOUNDED) + ", as tokens need actions in [-1, 1]"
            raise ConfigError("normalization_mapping.ACTION", mode.value, allowed)
        return cls(reference, normalizer, tokenizer.fit(normalizer(chunks)), horizon)

    def normalize(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return a raw batch's chunks relative to the state and normalized, (batch, horizon, action size).

        Raises:
            DatasetError: the chunks have another shape.
            NotFiniteError: an action is NaN or infinite.
        """
        actions, size = batch[ACTION], len(self.normalizer.center)
        if size == 1 and actions.dim() == 2:  # LeRobot's loader drops the axis of one number
            actions = actions.unsqueeze(-1)
        if actions.dtype == torch.bool:
            actions = actions.float()
        if actions.dim() > 3:  # of a table, as (arms, joints)
            actions = actions.flatten(2)
        if actions.shape[1:] != (self.horizon, size):
            allowed = f"{(self.horizon, size)}, as the policy was made for"
            raise DatasetError("action chunk", tuple(actions.shape[1:]), allowed)
        check_finite({ACTION: actions}, self.names)
        normalized: Tensor = self.normalizer(actions - origin(batch, self.reference))
        return normalized

    def encode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return what a factorization models of a raw batch: codes (batch, length), or what ``normalize`` gives."""
        values = self.normalize(batch)
        return values if self.tokenizer is None else self.tokenizer.encode(values)

    def decode(self, code: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return raw actions (batch, horizon, action size) for what was sampled.

        Args:
            code: tokens (batch, length), or normalized chunks.
            batch: raw observations, of which relative actions need ``observation.state``.

        Raises:
            NotFiniteError: a value is NaN or infinite.
        """
        return self.actions(self.values(code), batch)

    def values(self, code: Tensor) -> Tensor:
        """Return the normalized chunks (batch, horizon, action size) that codes stand for, as they are."""
        return code if self.tokenizer is None else self.tokenizer.decode(code)

    def bounded(self, values: Tensor) -> Tensor:
        """Return normalized actions (batch, ..., action size) within the limit of the normalization, as executed.

        Raises:
            NotFiniteError: a value is NaN or infinite.
        """
        # Infinity is caught before it is clipped to an extreme that looks like an action.
        check_finite({"predicted chunk": values}, {"predicted chunk": self.names.get(ACTION, ())}, WITHIN)
        values, limit = at_least_float32(values), self.normalizer.limit
        return values.clamp(-limit, limit)

    def actions(self, values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Return raw actions for normalized chunks; see ``decode``."""
        actions = self.normalizer.inverse(self.bounded(values))
        actions = actions + origin(batch, self.reference).to(actions)
        check_finite({ACTION: actions}, self.names, WITHIN)
        return actions


def action_reference(names: Mapping[str, Sequence[str]]) -> list[int]:
    """Return which dimension of ``observation.state`` each action is relative to, found by name, or -1.

    Args:
        names: that the dataset gives the dimensions of ``observation.state`` and ``action``.

    Raises:
        ConfigError: it gives none, one twice, or none that both have.

    >>> action_reference({"observation.state": ["pan", "lift"], "action": ["lift", "grip"]})
    [1, -1]
    """
    for feature in (OBS_STATE, ACTION):
        if all(name.isdecimal() for name in names.get(feature, [])):
            allowed = f"false, as the dataset does not name the dimensions of {feature} (names in its meta/info.json)"
            raise ConfigError("relative_actions", True, allowed)
    state, action = list(names[OBS_STATE]), list(names[ACTION])
    if twice := [name for name in action if action.count(name) > 1 or state.count(name) > 1]:
        allowed = f"false, as more than one dimension has the name {twice[0]!r} (names in its meta/info.json)"
        raise ConfigError("relative_actions", True, allowed)
    found = [state.index(name) if name in state else -1 for name in action]
    if not any(i >= 0 for i in found):
        allowed = (
            f"false, as no dimension of {OBS_STATE} ({', '.join(state)}) has the name of an action "
            f"({', '.join(action)})"
        )
        raise ConfigError("relative_actions", True, allowed)
    return found


def origin(batch: Mapping[str, Tensor], dimensions: Sequence[int]) -> Tensor:
    """Return what each action is relative to: (batch, 1, action size), or a zero when all are absolute.

    Args:
        batch: raw observations; with a history, the present is the last.
        dimensions: for each action, the dimension of ``observation.state``, -1 for absolute.

    >>> origin({"observation.state": torch.tensor([[3.0, 4.0]])}, [1, -1])
    tensor([[[4., 0.]]])
    """
    if not dimensions:
        return torch.zeros(())
    index = torch.tensor(dimensions)
    state = batch[OBS_STATE]
    state = state[:, -1] if state.dim() == 3 else state
    return torch.where(index.to(state.device) >= 0, state[:, index.clamp_min(0)], 0.0).unsqueeze(1)


def describe(chunks: Tensor) -> dict[str, np.ndarray]:
    """Return exact per-dimension statistics of chunks (count, horizon, action size)."""
    values = chunks.flatten(0, 1).double().cpu().numpy()
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0)
    named = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {**named, "q01": q01, "q99": q99}
