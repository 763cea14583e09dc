"""Settings of a policy that are the same in a training run and in what it saves.

They stand here, below LeRobot's own classes: a command that only reads settings does not load LeRobot.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anyorder.errors import ConfigError
from anyorder.factorization import DecodeConfig, FactorizationConfig, check_sampling
from anyorder.networks.encoder import EncoderConfig
from anyorder.networks.heads import HeadConfig
from anyorder.networks.transformer import MAX_SIZE, TransformerConfig
from anyorder.settings import Settings, setting


@dataclass
class PolicySettings(Settings):
    """What is observed, predicted and executed, by which network, and how tokens are drawn."""

    chunk_size: int = setting(6, "Time steps predicted at once.", least=1, most=MAX_SIZE)
    n_action_steps: int = setting(
        5, "How many of them are executed before the next prediction.", least=1, most=MAX_SIZE
    )
    n_obs_steps: int = setting(1, "Moments observed at once, the present one included.", least=1, most=MAX_SIZE)
    network: TransformerConfig = setting(TransformerConfig, "The transformer that every factorization shares.")
    head: HeadConfig = setting(HeadConfig, "How features become a distribution over tokens.")
    encoder: EncoderConfig = setting(EncoderConfig, "What makes context tokens of observations.")
    ensemble: int = setting(
        1,
        "How many members, each with an encoder and a network of its own, the policy is the mean of: an exact mixture "
        "of their joints. 3 to 5 help with few demonstrations; training costs that many times more.",
        least=1,
        most=16,
    )
    relative_actions: bool = setting(
        False,
        "Predict targets relative to the present state, for dimensions that have the name of one of "
        "observation.state. The likelihood is better so, closed-loop success worse: errors then add up.",
    )
    observation_noise: float = setting(
        0.0,
        "Standard deviation of noise on the normalized observations in training, against overfitting.",
        least=0,
        most=1_000,
    )
    context_dropout: float = setting(
        0.0, "Share of training samples whose observation is hidden; guidance needs it.", least=0, below=1
    )
    repeats: int = setting(
        1,
        "How many masks, orders or noises of the loss are drawn for each observation that is encoded; the loss is the "
        "mean over them.",
        least=1,
        most=1_024,
    )
    temperature: float = setting(
        0.0,
        "Temperature of sampling tokens: 0 = most likely, 1 = the model; 0, or at least 1e-6. Like nucleus, left as "
        "it is where none are drawn, as by regression.",
    )
    nucleus: float = setting(1.0, "Only the most likely tokens that together have this probability are drawn.")
    decode: DecodeConfig = setting(DecodeConfig, "How the distribution over chunks becomes the chunk that is executed.")
    blend: int = setting(
        0,
        "How many first actions of a chunk are blended with those that the former chunk had for the same times: its "
        "share falls linearly. At most chunk_size - n_action_steps.",
        least=0,
        most=MAX_SIZE,
    )
    guidance: float = setting(
        1.0, "Classifier-free guidance on the observation; 1 is off, more sharpens at twice the cost."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self.temperature, self.nucleus, self.guidance)
        if self.decode.point != "mode" and (self.temperature or self.decode.rule != "sample"):
            raise ConfigError("decode.point", self.decode.point, "mode, but with temperature=0 and decode.rule=sample")
        if self.n_action_steps > self.chunk_size:
            allowed = f"1 to chunk_size = {self.chunk_size}"
            raise ConfigError("n_action_steps", self.n_action_steps, allowed)
        if self.blend > self.chunk_size - self.n_action_steps:
            left = self.chunk_size - self.n_action_steps
            raise ConfigError("blend", self.blend, f"0 to chunk_size - n_action_steps = {left}")
        if self.guidance != 1 and not self.context_dropout:
            raise ConfigError("guidance", self.guidance, "1 without context_dropout, which trains for guidance")

    def check_idle(self, given: Mapping[str, Any], factorization: FactorizationConfig) -> None:
        """Refuse settings that change nothing with this factorization, or beside the others.

        Args:
            given: what somebody asked for: values by the dotted names of settings.
            factorization: the one they are for.

        Raises:
            ConfigError: names the first without an effect, and says why it has none.

        >>> from anyorder.factorization.families.mip import MinimalIterativePolicyConfig
        >>> PolicySettings().check_idle({"tokenizer": "bins"}, MinimalIterativePolicyConfig())
        Traceback (most recent call last):
        anyorder.errors.ConfigError: tokenizer: 'bins' given, allowed: none, as mip has no tokens
        """
        kind, name = factorization.family, factorization.choice
        one_draw, no_tokens = self.decode.rule == "sample", not kind.draws_tokens
        idle = {
            "tokenizer": not kind.discrete and f"as {name} has no tokens",
            "head": no_tokens and f"as {name} draws no tokens",
            "decode.point": no_tokens and f"as {name} draws no tokens",
            "decode.rule": kind.deterministic and f"as {name} draws nothing",
            "decode.samples": one_draw and "but with decode.rule=mean, medoid or cluster",
            "decode.temperature": (one_draw and "but with another decode.rule than sample")
            or (no_tokens and f"as {name} draws no tokens"),
            "decode.bandwidth": self.decode.rule != "cluster" and "but with decode.rule=cluster",
            "decode.window": self.decode.point != "local_mean" and "but with decode.point=local_mean",
        }
        for setting_name, value in given.items():
            for place, reason in idle.items():
                if reason and f"{setting_name}.".startswith(f"{place}."):
                    raise ConfigError(setting_name, value, f"none, {reason}")
