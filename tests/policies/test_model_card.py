"""Model cards say what is known and nothing else."""

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard
from rich.console import Console

from anyorder.commands import rollout as rollout_command
from anyorder.commands import train as train_command
from anyorder.errors import CheckpointError
from anyorder.factorization import FactorizationConfig
from anyorder.networks import EncoderConfig, TransformerConfig
from anyorder.policies.model_card import CARD, model_card, policy_card
from anyorder.reports.model_card import run_of, write_model_card
from anyorder.training.config import DatasetConfig, TrainConfig
from tests.plugin.saved import policy, save

FACTS = {
    "repo_id": "ann/lift",
    "license": "mit",
    "tags": ["so101"],
    "dataset": "ann/lift-demos",
    "factorization": {"type": "masked_diffusion", "steps": 4},
    "tokenizer": {"type": "fast"},
    "chunk_size": 6,
    "n_action_steps": 5,
    "fps": 30.0,
    "inputs": {"observation.state": [6]},
    "outputs": {"action": [6]},
    "tasks": ["Lift the cube."],
    "params": 771511,
    "episodes": 360,
    "minutes": 12.34,
    "steps": 3000,
    "batch_size": 64,
    "seed": 0,
    "nll": "≤ 0.903 ± 0.016 nats/token",
    "validation_episodes": 40,
    "rollout": {
        "env": {"type": "so101", "task": "lift"},
        "seed": 1000000,
        "episodes": 100,
        "successes": 98,
        "n_action_steps": 5,
        "policy_seed": 0,
        "temperature": 0.0,
    },
}


def header(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_a_card_says_everything_that_is_known():
    card = model_card(FACTS)
    assert header(card) == {
        "license": "mit",
        "library_name": "lerobot",
        "pipeline_tag": "robotics",
        "tags": ["anyorder", "lerobot", "masked_diffusion", "robotics", "so101"],
        "datasets": "ann/lift-demos",
    }
    for text in (
        "| factorization | `masked_diffusion` (steps=4) |",
        "| parameters | 771,511 |",
        "| chunk | 6 steps, of which 5 are executed |",
        "| demonstrations | 360 |",
        "| their length | 12.3 min |",
        "| optimiser steps | 3,000 |",
        "| chunks seen | 192,000 (64 a step) |",
        "| validation NLL, 40 held-out demonstrations | ≤ 0.903 ± 0.016 nats/token |",
        "| success in `so101 lift` | 98/100 = 98% (Wilson's 95 % interval 93% to 99%) |",
        "environment seeds 1000000 ... 1000099, policy seed 0, temperature 0.0, 5 steps a chunk executed",
        "--policy.path=ann/lift --env.type=anyorder_so101 --env.task=lift --seed=1000000",
    ):
        assert text in card, text


def test_a_card_says_what_was_decided_over():
    decode = {"rule": "mean", "samples": 16, "temperature": 1.0}
    card = model_card(FACTS | {"rollout": FACTS["rollout"] | {"decode": decode}})
    assert "temperature 0.0, mean of 16 samples at temperature 1.0, 5 steps a chunk executed" in card
    decode = {"rule": "sample", "point": "median"}
    card = model_card(FACTS | {"rollout": FACTS["rollout"] | {"decode": decode, "blend": 3}})
    assert "median of each token's law, 3 steps of neighbouring chunks blended" in card
    card = model_card(FACTS | {"rollout": FACTS["rollout"] | {"decode": {"rule": "sample"}}})
    assert "temperature 0.0, 5 steps a chunk executed" in card


@pytest.mark.parametrize("known", [[], ["factorization"], ["steps"], ["dataset", "minutes"]])
def test_what_is_not_known_is_not_said(known):
    card = model_card({name: FACTS[name] for name in known})
    for fact in ("mit", "success", "NLL", "demonstrations |", "parameters", "seed", "chunks seen", "None"):
        assert fact not in card
    assert "license" not in header(card)
    assert ("datasets" in header(card)) == ("dataset" in known)
    assert ("3,000" in card) == ("steps" in known)


def test_training_writes_a_card_and_a_rollout_adds_the_success(lift_root, tmp_path):
    run = tmp_path / "lifting"
    config = TrainConfig(
        output_dir=str(run),
        dataset=DatasetConfig(root=str(lift_root), validation_fraction=0.3),
        factorization=FactorizationConfig.named("autoregressive"),
        network=TransformerConfig(16, 1, 2),
        encoder=EncoderConfig(2, 16),
        steps=4,
        save_freq=2,
        eval_samples=1,
        batch_size=8,
        device="cpu",
        progress=False,
    )
    console = Console(quiet=True)
    train_command.run(config, console)
    pretrained = run / "checkpoints" / "last" / "pretrained_model"
    card = (pretrained / CARD).read_text()
    assert "# lifting (autoregressive)" in card
    assert "| demonstrations | 4 |" in card
    assert "| optimiser steps | 4 |" in card
    assert "| chunks seen | 32 (8 a step) |" in card
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    nll = [line["val_nll_nats_per_token"] for line in lines if "val_nll_nats_per_token" in line][-1]
    said = re.search(r"= ([\d.]+)( ± [\d.]+)? nats/token, = ", card)
    assert float(said[1]) == pytest.approx(nll, rel=0.05)
    assert "success" not in card
    assert str(tmp_path) not in card

    settings = rollout_command.RolloutConfig(policy=str(run), episodes=2, videos=0, batch_size=2)
    rollout_command.run(settings, console)
    card = (pretrained / CARD).read_text()
    summary = json.loads((run / "rollout" / "summary.json").read_text())
    assert f"| success in `so101 lift` | {summary['successes']}/2" in card
    assert "| optimiser steps | 4 |" in card
    # An earlier checkpoint of the run has its own steps, and no score that is not its own.
    earlier = write_model_card(run / "checkpoints" / "000002" / "pretrained_model", run).read_text()
    assert "| optimiser steps | 2 |" in earlier
    assert "success" not in earlier


def test_only_a_run_of_ours_gets_a_card(tmp_path):
    folder = save(policy(), tmp_path / "checkpoints" / "000001" / "pretrained_model")
    assert run_of(folder) is None
    (tmp_path / "data.json").write_text("{}")
    assert run_of(folder) == tmp_path


def test_a_card_without_a_run_comes_from_the_policy_alone(tmp_path):
    card = write_model_card(save(policy(), tmp_path / "policy")).read_text()
    assert "| factorization | `masked_diffusion`" in card
    assert "| reads | `observation.state` [3] |" in card
    assert "| control rate | 30 Hz |" in card
    with pytest.raises(CheckpointError, match=r"config\.json"):
        write_model_card(tmp_path / "nothing")


def test_lerobots_push_gets_a_card_it_can_read(tmp_path):
    made = policy()
    card = policy_card(made, "ann/lift-demos", "anyorder", None, ["so101"])
    assert isinstance(card, ModelCard)
    assert card.data.tags == ["anyorder", "lerobot", "masked_diffusion", "robotics", "so101"]
    assert card.data.datasets == "ann/lift-demos"
    assert card.data.license is None
    assert f"| parameters | {made.trainable:,} |" in card.content
    continuous = policy_card(policy("regression"), None, "anyorder", "mit", None)
    assert "tokenizer |" not in continuous.content
    assert continuous.data.license == "mit"
