"""The data of a study: one split, one tokenizer, the first U tokens of a random order, token epochs."""

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from anyorder.datasets.read.chunks import OBSERVATION, ActionChunks
from anyorder.datasets.read.episodes import Remedies, episode_borders, shuffled, tiles
from anyorder.errors import ConfigError, together
from anyorder.factorization import FactorizationConfig, TokenFactorization
from anyorder.networks import EncoderConfig, HeadConfig, SlotNetwork, TransformerConfig
from anyorder.policies import AnyOrderConfig, AnyOrderPolicy
from anyorder.policies.fitting import Fitted, fit_to_chunks
from anyorder.settings import part_of, to_plain
from anyorder.studies.config import LEAST_HELD_OUT, StudyConfig, check_episodes
from anyorder.studies.grid import too_many_tokens
from anyorder.training.config import DatasetConfig, DatasetSettings, TrainConfig
from anyorder.training.data import load_chunks
from anyorder.training.fresh import policy_config
from anyorder.training.order import seeded

CODE_BATCH = 4096


@dataclass(frozen=True)
class Inputs:
    """What a model reads and predicts at each row, ready made.

    Attributes:
        codes: tokens, (rows, length) int64.
        observations: normalized, by name, each (rows, 1, size).
        tasks: a sentence for each row.
        episodes: which episode each row is from, (rows,) int64.
    """

    codes: Tensor
    observations: dict[str, Tensor]
    tasks: list[str]
    episodes: Tensor

    def rows(self, rows: Tensor) -> "Inputs":
        """Return some rows."""
        seen = {name: values[rows] for name, values in self.observations.items()}
        tasks = [self.tasks[row] for row in rows.tolist()]
        return Inputs(self.codes[rows], seen, tasks, self.episodes[rows])

    def context(self, policy: AnyOrderPolicy, rows: Tensor) -> Tensor:
        """Return the context tokens of some rows, (batch, context tokens, width)."""
        seen = {name: values[rows] for name, values in self.observations.items()}
        tasks = None if policy.encoder.task is None else [self.tasks[row] for row in rows.tolist()]
        context: Tensor = policy.encoder(seen, tasks)
        return context


@dataclass(frozen=True)
class TokenEpochs:
    """The chunks a run visits, one after the other, over all its token epochs.

    Attributes:
        rows: first frame of each chunk, (visits,) int64.
        weights: share of its actions that count, (visits,): those before the next chunk of the same epoch begins and
            before the demonstration ends. Over an epoch they sum to frames / horizon, so a run sees exactly
            ``unique tokens * epochs`` tokens.
        ends: visits up to the end of each epoch.
    """

    rows: Tensor
    weights: Tensor
    ends: list[int]


def token_epochs(chunks: ActionChunks, epochs: int, seed: int) -> TokenEpochs:
    """Tile the episodes anew in each epoch, at random offsets; a function of (seed, epoch) alone."""
    rows: list[Tensor] = []
    counted: list[Tensor] = []
    ends: list[int] = []
    for epoch in range(epochs):
        one = tiles(chunks.starts, chunks.lengths, chunks.horizon, seeded("cpu", seed, 1, epoch))
        rows.append(one[0])
        counted.append(one[1])
        ends.append(len(one[0]) + (ends[-1] if ends else 0))
    every = torch.cat(rows)
    real = torch.minimum(torch.cat(counted), chunks.ends[every] - every)
    return TokenEpochs(every, real / chunks.horizon, ends)


def prefix(chunks: ActionChunks, frames: int, seed: int) -> ActionChunks:
    """Keep the first ``frames`` frames of a random order of the episodes; the last episode may be cut.

    A smaller prefix of the same seed lies in a larger one.
    """
    order = torch.tensor(shuffled(list(range(chunks.episodes)), seed))
    lengths = chunks.lengths[order]
    before = lengths.cumsum(0) - lengths
    taken = zip(chunks.starts[order].tolist(), lengths.clamp_max(frames - before).tolist(), strict=True)
    rows = torch.cat([torch.arange(start, start + count) for start, count in taken if count > 0])
    columns = {key: values[rows] for key, values in chunks.columns.items()}
    begins, ends = episode_borders(columns["episode_index"])
    return replace(chunks, columns=columns, begins=begins, ends=ends)


class StudyData:
    """The dataset of a study, split, with everything that is fitted to it once: all runs model the same tokens.

    Normalization and tokenizer come from all training episodes, however few a run learns from.

    Attributes:
        train: episodes to learn from.
        validation: episodes that choose.
        test: episodes that report.
        length: tokens in a chunk.
        fingerprint: hash of the split's numbers and of how they become tokens.

    Raises:
        ConfigError: the data has cameras, or the tokenizer's codes have no fixed length.
        DatasetError: the dataset is missing or damaged.
    """

    def __init__(self, config: StudyConfig, remedies: Remedies | None = None) -> None:
        given = config.dataset
        given.check_named("dataset.repo_id", "dataset")
        shared = vars(part_of(DatasetSettings, given))
        wanted = DatasetConfig(**shared, validation_fraction=given.test_fraction)
        rest, self.test = load_chunks(wanted, config.chunk_size, remedies=remedies)
        if rest.cameras is not None:
            allowed = "observations of numbers: studies read no cameras"
            raise ConfigError("dataset.observations", given.observations, allowed)
        share = given.validation_fraction / (1 - given.test_fraction)
        self.train, self.validation = rest.split(share, given.seed)
        self.check_held_out(config, rest.episodes + self.test.episodes, remedies)
        settings = TrainConfig(
            dataset=wanted,
            tokenizer=config.tokenizer,
            chunk_size=config.chunk_size,
            n_action_steps=config.success.n_action_steps or max(1, config.chunk_size - 1),
            temperature=config.success.temperature,
            network=config.size.network(config.size.head_width),
            encoder=config.size.encoder(config.size.head_width),
            device="cpu",
        )
        self.template = policy_config(settings, self.train)
        self.fitted: Fitted = fit_to_chunks(self.template, self.train)
        tokenizer = self.fitted.codec.tokenizer
        assert tokenizer is not None
        if tokenizer.pad_token is not None:
            allowed = "one whose codes have a fixed length, as dct or bins, so that D = U * epochs holds"
            raise ConfigError("tokenizer", config.tokenizer.choice, allowed)
        self.length = tokenizer.length
        self.fingerprint = self._fingerprint(config)

    def check_held_out(self, config: StudyConfig, total: int, remedies: Remedies | None) -> None:
        """Refuse shares of ``total`` episodes that hold too few out, and say in one line all that is too large, then.

        Raises:
            ConfigError: fewer than ``LEAST_HELD_OUT`` validate or test; it names the grids, too, that ask for more
                tokens than are left by shares that hold out enough.
        """
        few = [f"{n}_fraction" for n in ("validation", "test") if getattr(self, n).episodes < LEAST_HELD_OUT]
        if not few:
            return
        check_episodes(total)
        least = math.ceil(100 * LEAST_HELD_OUT / total) / 100
        why = f"at least {LEAST_HELD_OUT} of {total} episodes, whose spread is the standard error"
        wrong = [ConfigError(f"dataset.{n}", getattr(config.dataset, n), f"{least:g} or more: {why}") for n in few]
        shares: dict[str, Any] = dict.fromkeys(few, least)
        enough = replace(config, dataset=replace(config.dataset, **shares))
        raise together([*wrong, *too_many_tokens(config, StudyData(enough, remedies))])

    @property
    def tokens_per_frame(self) -> float:
        """Tokens that a time step adds."""
        return self.length / self.train.horizon

    @property
    def unique_tokens(self) -> float:
        """Tokens that the training episodes have."""
        return self.train.frames * self.tokens_per_frame

    @property
    def values_per_token(self) -> float:
        """Action values that a token stands for: nats per token over this are nats per action value."""
        return self.template.action_size / self.tokens_per_frame

    def policy(
        self, factorization: FactorizationConfig, network: TransformerConfig, encoder: EncoderConfig, head: HeadConfig
    ) -> AnyOrderPolicy:
        """Make a fresh policy, its weights drawn from torch's own generator.

        Raises:
            ConfigError: the factorization is not one of tokens, which has a likelihood.
        """
        config: AnyOrderConfig = replace(
            self.template,
            factorization=to_plain(factorization),
            network=network,
            head=head,
            encoder=replace(encoder, language=self.template.encoder.language),
        )
        policy = AnyOrderPolicy(config, self.fitted)
        if not isinstance(policy.factorization, TokenFactorization) or not isinstance(policy.network, SlotNetwork):
            allowed = "a factorization of tokens, which has a likelihood"
            raise ConfigError("families", factorization.choice, allowed)
        return policy

    def demonstrations(self, frames: int, seed: int) -> float:
        """Count the demonstrations in a ``subset``, the cut one in part."""
        lengths = self.train.lengths[torch.tensor(shuffled(list(range(self.train.episodes)), seed))]
        before = lengths.cumsum(0) - lengths
        return float(((frames - before).clamp_min(0).minimum(lengths) / lengths).sum())

    def subset(self, frames: int, seed: int) -> ActionChunks:
        """Return the training episodes' first ``frames`` frames in an order of ``seed``."""
        return prefix(self.train, frames, seed)

    def inputs(self, chunks: ActionChunks, rows: Tensor | None = None) -> Inputs:
        """Encode the chunks that start at some rows; at every one when None."""
        rows = torch.arange(chunks.frames) if rows is None else rows
        spec = self.template.observation_spec
        codes: list[Tensor] = []
        seen: dict[str, list[Tensor]] = {name: [] for name in (*spec.vectors, *spec.clouds)}
        tasks: list[str] = []
        for part in rows.split(CODE_BATCH):
            batch = chunks.batch(part)
            codes.append(self.fitted.codec.encode(batch))
            tasks += batch["task"]
            for name, found in seen.items():
                found.append(self.fitted.normalizers[name](batch[name].float()).unsqueeze(1))
        observations = {name: torch.cat(found) for name, found in seen.items()}
        return Inputs(torch.cat(codes), observations, tasks, chunks.columns["episode_index"][rows])

    def _fingerprint(self, config: StudyConfig) -> str:
        hashed = hashlib.sha256(json.dumps(to_plain(config.tokenizer), sort_keys=True).encode())
        hashed.update(f"{config.chunk_size} {sorted(self.template.observation_spec.names)}".encode())
        for chunks in (self.train, self.validation, self.test):
            for key in sorted(chunks.columns):
                if key == "action" or key == "episode_index" or key.startswith(OBSERVATION):
                    hashed.update(key.encode())
                    hashed.update(chunks.columns[key].contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]
