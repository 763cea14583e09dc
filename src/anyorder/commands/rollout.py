"""``anyorder rollout``: run a trained policy in simulation and count its successes."""

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from anyorder.bars import counting
from anyorder.envs.base import EnvConfig
from anyorder.errors import MAX_COUNT, ConfigError, NotFiniteError, UserError, check_number
from anyorder.settings import TYPE_KEY, Settings, from_plain, setting, to_plain
from anyorder.training.run_folder import policy_folder


@dataclass
class RolloutConfig(Settings):
    """Settings of ``anyorder rollout``."""

    policy: str = setting(meaning="Run folder, checkpoint or pretrained_model folder.")
    env: EnvConfig | None = setting(
        None, "The environment, as of `anyorder record`; the one its demonstrations were recorded in when null."
    )
    output: str | None = setting(
        None,
        "New folder for episodes.jsonl, summary.json and videos; it appears when the rollout is complete. "
        "<run>/rollout when null.",
    )
    episodes: int = setting(
        100, "How many episodes; with 100, the 95 % interval around 95 % is 89 to 98 %.", least=1, most=MAX_COUNT
    )
    seed: int = setting(
        1_000_000, "Reset seed of the first; episode i uses seed + i, whatever the batch size.", least=0, most=MAX_COUNT
    )
    batch_size: int = setting(100, "Episodes that step together.", least=1, most=MAX_COUNT)
    videos: int = setting(1, "How many episodes to film, from the first on.", least=0, most=MAX_COUNT)
    policy_seed: int = setting(0, "Seed of the policy's own sampling.", least=0, most=MAX_COUNT)
    temperature: float | None = setting(
        None,
        "Temperature of sampling, the policy's when null: 1 samples the model, 0 takes the most likely tokens; 0 "
        "alone where none are drawn.",
    )
    n_action_steps: int | None = setting(
        None, "Actions executed before the next prediction; the policy's when null.", least=1, most=MAX_COUNT
    )
    decode: dict[str, Any] = setting(
        {}, "Settings by name that go into the policy's decode, as decode.rule=mean decode.samples=16."
    )
    blend: int | None = setting(
        None,
        "First actions of a chunk that are blended with the rest of the former; the policy's when null.",
        least=0,
        most=MAX_COUNT,
    )
    device: str | None = setting(None, "cpu, cuda, cuda:1 or mps; the policy's when null, or the best there is.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("seed", self.seed, 0, MAX_COUNT - self.episodes, whole=True)
        if self.temperature is not None:
            from anyorder.factorization import check_sampling

            check_sampling(self.temperature)
        if self.device is not None:
            from anyorder.devices import check_device

            check_device(self.device)


def run(config: RolloutConfig, console: Console) -> None:
    """Roll out, write the results and print the success rate with its interval."""
    folder = policy_folder(Path(config.policy))  # before the imports, which take seconds
    from anyorder.factorization import DecodeConfig, check_sampling
    from anyorder.reports.model_card import run_of, write_model_card
    from anyorder.rollouts.rollout import chunk_latency_ms, rollout
    from anyorder.training.checkpoint import load_policy, recorded_env

    policy = load_policy(config.policy, config.device)
    output = Path(config.output) if config.output else default_output(Path(config.policy))
    if output.exists():
        raise ConfigError("output", str(output), "a new folder")
    if config.temperature is not None:
        check_sampling(config.temperature, family=policy.config.factorization_config())
        policy.config.temperature = config.temperature
    if config.n_action_steps is not None:
        policy.config.n_action_steps = config.n_action_steps
    policy.config.decode = from_plain(DecodeConfig, to_plain(policy.config.decode) | config.decode, "decode")
    if config.blend is not None:
        policy.config.blend = config.blend
    policy.config.__post_init__()  # the settings have to be checked again
    given = {f"decode.{name}": value for name, value in config.decode.items()}
    policy.config.check_idle(given, policy.config.factorization_config())
    env = config.env or recorded_env(config.policy)
    latency_ms = None
    with suppress(NotFiniteError):  # what the policy refuses here it refuses in its episode, which says why
        latency_ms = chunk_latency_ms(env, policy)
    policy.manual_seed(config.policy_seed)
    notes = {
        "policy_seed": config.policy_seed,
        "temperature": policy.config.temperature,
        "decode": to_plain(policy.config.decode),
        "blend": policy.config.blend,
        "single_chunk_latency_ms": None if latency_ms is None else round(latency_ms, 3),
    }
    with counting(policy.config.factorization[TYPE_KEY], console) as progress:
        result = rollout(
            env,
            policy,
            episodes=config.episodes,
            seed=config.seed,
            batch_size=config.batch_size,
            output=output,
            videos=config.videos,
            notes=notes,
            progress=progress,
        )
    run = run_of(folder)
    if run is not None:  # a policy from elsewhere keeps its own card
        try:
            write_model_card(folder, run, output)
        except (OSError, UserError) as error:
            # A checkpoint may be read-only; what was measured is written already.
            print(f"anyorder rollout: warning: model card not written: {error}", file=sys.stderr)
    low, high = result.interval
    ended = f", {result.not_finite} ended as failed: numbers not finite" if result.not_finite else ""
    latency = "unknown" if latency_ms is None else f"{latency_ms:.1f} ms"
    console.print(
        f"{output}: success {result.successes}/{len(result.episodes)} = {result.success_rate:.0%} "
        f"(95 % Wilson interval {low:.0%} to {high:.0%}){ended}, chunk latency {latency}"
    )


def default_output(policy: Path) -> Path:
    """Return ``rollout`` in a run's folder, where ``anyorder report`` looks for it."""
    if not (policy / "checkpoints").is_dir():
        raise ConfigError("output", None, "a new folder, as policy is no run folder")
    return policy / "rollout"
