"""LeRobot's own commands, as a user types them; each takes a quarter of a minute to start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anyorder.envs import EnvConfig
from anyorder.rollouts.rollout import rollout
from anyorder.training.checkpoint import load_policy

pytestmark = pytest.mark.slow

SMALL = [
    "--policy.type=anyorder",
    "--policy.factorization=regression",
    "--policy.network.width=16",
    "--policy.network.depth=1",
    "--policy.network.heads=2",
    "--policy.push_to_hub=false",
    "--policy.device=cpu",
    "--dataset.repo_id=local/lift",
    "--batch_size=64",
    "--steps=24",
    "--save_freq=12",
    "--num_workers=0",
    "--env_eval_freq=0",
]


def run(folder, command, *words):
    script = Path(sys.executable).parent / command
    environment = {**os.environ, "ANYORDER_FAST_LOADING": "1"}
    return subprocess.run(
        [sys.executable, script, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def trained(lift_root, tmp_path_factory):
    """A folder in which `lerobot-train` has made the run ``whole``."""
    folder = tmp_path_factory.mktemp("commands")
    done = run(folder, "lerobot-train", *SMALL, f"--dataset.root={lift_root}", "--output_dir=whole")
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def checkpoint(folder, name, step="last"):
    return folder / name / "checkpoints" / step / "pretrained_model"


def test_a_resumed_run_ends_like_an_undisturbed_one(trained):
    # More than one epoch (a few hundred frames) lies before the checkpoint.
    first = load_file(checkpoint(trained, "whole") / "model.safetensors")
    settings = checkpoint(trained, "whole", "000012") / "train_config.json"
    done = run(trained, "lerobot-train", f"--config_path={settings}", "--resume=true")
    assert done.returncode == 0, done.stderr[-2000:]
    again = load_file(checkpoint(trained, "whole") / "model.safetensors")
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_lerobot_eval_and_our_rollout_agree_episode_by_episode(trained):
    policy = checkpoint(trained, "whole")
    done = run(
        trained,
        "lerobot-eval",
        f"--policy.path={policy}",
        "--policy.device=cpu",
        "--env.type=anyorder_so101",
        "--env.task=lift",
        "--eval.n_episodes=4",
        "--eval.batch_size=4",
        "--eval.use_async_envs=false",
        "--seed=7",
        "--output_dir=evaluated",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((trained / "evaluated" / "eval_info.json").read_text())["per_task"][0]["metrics"]
    env = EnvConfig.named("so101", task="lift")
    ours = rollout(env, load_policy(policy, "cpu"), episodes=4, seed=7, batch_size=4)
    assert metrics["successes"] == [episode.success for episode in ours.episodes]
    assert metrics["sum_rewards"] == [episode.return_ for episode in ours.episodes]
    assert metrics["max_rewards"] == [episode.max_reward for episode in ours.episodes]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--env.type=anyorder_so101", "--env.task=push"], "observation.environment_state"),
        (["--env.type=anyorder_so101", "--env.task=fly"], "env.task: 'fly' given, allowed: either, lift"),
        (["--env.type=anyorder_metaworld", "--env.task=reach-v3"], "given, allowed: "),
    ],
)
def test_what_does_not_fit_is_one_line_and_status_2(trained, words, line):
    policy = checkpoint(trained, "whole")
    done = run(trained, "lerobot-eval", f"--policy.path={policy}", "--eval.n_episodes=1", *words)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2, done.stderr[-2000:]
    assert last.startswith("lerobot-eval: ")
    assert line in last
    assert not any(text.startswith("Traceback") for text in done.stderr.splitlines()[-5:])


def test_a_dataset_that_is_not_there_is_one_line_and_status_2(tmp_path):
    done = run(tmp_path, "lerobot-train", *SMALL, "--dataset.root=nowhere", "--output_dir=none")
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.splitlines()[-1].startswith("lerobot-train: dataset.root: 'nowhere' given, allowed: ")
    assert "make_dataset" not in done.stderr  # as a traceback would have it
