"""The model card of a run's policy: what the run's folder and a rollout's summary tell of it."""

from pathlib import Path

import draccus

from anyorder.files import write_whole
from anyorder.policies.model_card import CARD, Facts, config_facts, model_card
from anyorder.policies.saved import read_config
from anyorder.reports.rollouts import read_summary
from anyorder.reports.runs import read_run
from anyorder.reports.table import nll
from anyorder.training.run_folder import step_of


def run_facts(run: Path, step: int | None) -> Facts:
    """Return what the folder of an ``anyorder train`` run tells about its checkpoint of ``step``, known or not."""
    summary = read_run(run)
    dataset = summary.settings.get("dataset") or {}
    facts: Facts = {
        "name": summary.label,
        "dataset": None if dataset.get("root") else dataset.get("repo_id"),
        "data": Path(dataset["root"]).name if dataset.get("root") else None,
        "params": summary.params,
        "episodes": summary.train_episodes,
        "minutes": summary.train_minutes,
        "validation_episodes": summary.validation_episodes,
        "steps": step,
        "batch_size": summary.settings.get("batch_size"),
        "seed": summary.settings.get("seed"),
    }
    score = next((score for score in summary.validations if score.step == step), None)
    if score is not None and score.nll_nats_per_token is not None:
        per_token = nll(summary.exact, score.nll_nats_per_token, score.standard_error_nats_per_token)
        per_value = nll(summary.exact, score.nll_nats_per_value, score.standard_error_nats_per_value)
        facts["nll"] = f"{per_token} nats/token, {per_value} nats/action value (± standard error)"
    return facts


def write_model_card(pretrained: Path, run: Path | None = None, rollout: Path | None = None) -> Path:
    """Write README.md beside the ``config.json`` in a ``pretrained_model`` folder; returns its path.

    ``run`` is the ``anyorder train`` run it belongs to, as ``<run>/checkpoints/<step>/pretrained_model``, ``rollout``
    the folder of ``anyorder rollout`` with this very checkpoint.

    Raises:
        UserError: there is no ``config.json``, or a file is damaged.
    """
    config = read_config(pretrained)
    facts = config_facts(draccus.encode(config, type(config)))
    if run is not None:
        facts |= run_facts(run, step_of(pretrained.resolve().parent))
    if rollout is not None and (rollout / "summary.json").is_file():
        facts["rollout"] = read_summary(rollout)
    card = pretrained / CARD
    write_whole(card, model_card(facts))
    return card


def run_of(pretrained: Path) -> Path | None:
    """Return the ``anyorder train`` run that a ``pretrained_model`` folder belongs to; None for any other folder."""
    checkpoints = pretrained.resolve().parent.parent
    run = checkpoints.parent
    return run if checkpoints.name == "checkpoints" and (run / "data.json").is_file() else None
