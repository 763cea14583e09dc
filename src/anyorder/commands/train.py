"""``anyorder train``: train a policy on a dataset."""

import shlex
from pathlib import Path

from rich.console import Console

from anyorder.errors import EnvError
from anyorder.training.config import TrainConfig
from anyorder.training.data import dataset_infos
from anyorder.training.run_folder import PRETRAINED, last_checkpoint, policy_folder, step_of


def again(config: TrainConfig) -> str:
    """Return what the same command does after it was cut off."""
    run = Path(config.output_dir)
    if not run.is_dir():
        return "begins again"
    last = last_checkpoint(run)
    how = "" if config.resume else "with resume=true "
    if last is None:
        return f"{how}begins again, as there is no checkpoint yet"
    return f"{how}goes on from step {step_of(last)}"


def run(config: TrainConfig, console: Console) -> None:
    """Train and say what came out."""
    dataset_infos(config.dataset)  # before the imports, which take seconds
    from anyorder.reports.model_card import write_model_card
    from anyorder.training.loop import train

    result = train(config)
    write_model_card(policy_folder(result.run), result.run, result.run / "rollout")
    score = result.validation
    if score is None:
        found = "no episodes were held out to validate it"
    elif score.nll_nats_per_token is None:
        found = f"validation loss {score.loss:.4f} (no likelihood)"
    else:
        sign = "=" if score.exact else "<="
        found = f"validation NLL {sign} {score.nll_nats_per_token:.3f} nats/token"
        found += f", {score.nll_nats_per_value:.4f} nats per action value"
    console.print(
        f"{result.run}: {config.factorization.choice}, {result.policy.trainable:,} parameters, "
        f"{found}, {result.seconds:.0f} s"
    )
    error = result.chunk_error
    if error is not None:
        console.print(
            f"held-out chunk error {error.policy:.3f} of half an action's range in training "
            f"(holding the last action {error.hold:.3f}, moving on as before {error.constant_velocity:.3f})"
        )
    console.print(next_step(result.run), markup=False, highlight=False, soft_wrap=True)


def next_step(run: Path) -> str:
    """Return what to do with a trained policy: an environment to try it in is known of recorded data alone."""
    from anyorder.training.checkpoint import recorded_env

    try:
        recorded_env(run)
    except EnvError:
        policy = shlex.quote(str(run / "checkpoints" / "last" / PRETRAINED))
        return f"on a robot: lerobot-rollout --policy.path={policy} ... (docs/lerobot.md)"
    return f"next: anyorder rollout {shlex.quote(f'policy={run}')}"
