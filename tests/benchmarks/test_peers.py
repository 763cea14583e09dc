"""LeRobot's policies behind our interfaces: batches, histories and rollouts are theirs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from anyorder.datasets import ActionChunks
from anyorder.errors import ConfigError
from anyorder.rollouts.statistics import paired_interval

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import peer_policies
import peers
from peer_adapter import PeerData
from peer_cells import Cell, budget_of, run_cell
from peer_policies import UNSEEN, make_peer, statistics

STATE, GOAL, ACTIONS = 3, 2, 2
LENGTHS = (20, 33, 27)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three episodes of noise, written by LeRobot."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    folder = tmp_path_factory.mktemp("peers") / "noise"
    sizes = {OBS_STATE: STATE, OBS_ENV_STATE: GOAL, ACTION: ACTIONS}
    features = {
        key: {"dtype": "float32", "shape": (size,), "names": [f"{i}" for i in range(size)]}
        for key, size in sizes.items()
    }
    dataset = LeRobotDataset.create("local/noise", fps=10, features=features, root=folder, use_videos=False)
    generator = np.random.default_rng(0)
    for length in LENGTHS:
        for _ in range(length):
            frame = {key: generator.normal(size=size).astype(np.float32) for key, size in sizes.items()}
            dataset.add_frame({**frame, "task": "Make noise."})
        dataset.save_episode()
    dataset.finalize()
    return folder


@pytest.fixture(scope="module")
def chunks(root):
    return ActionChunks.load(root, horizon=16)


def peer_of(name, chunks):
    torch.manual_seed(0)
    return make_peer(name, chunks, steps=10)


def test_batches_are_those_of_lerobots_loader(root, chunks):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    config = peer_of("diffusion", chunks).policy.config
    past = [i / 10 for i in config.observation_delta_indices]
    deltas = {OBS_STATE: past, OBS_ENV_STATE: past, ACTION: [i / 10 for i in config.action_delta_indices]}
    theirs = LeRobotDataset("local/noise", root=root, delta_timestamps=deltas)
    samples = PeerData(chunks, config)
    assert samples.frames == sum(LENGTHS) - len(LENGTHS) * config.drop_n_last_frames
    ours = samples.batch(torch.arange(samples.frames))
    kept = [frame for frame in range(sum(LENGTHS)) if frame < chunks.ends[frame] - config.drop_n_last_frames]
    for row, frame in enumerate(kept):
        item = theirs[frame]
        for key in (*deltas, "action_is_pad"):
            assert torch.equal(ours[key][row], item[key]), (frame, key)


@pytest.mark.parametrize("name", ["vqbet", "act"])
def test_a_shrinking_group_acts_as_each_episode_alone(name, chunks):
    """VQ-BeT reads five steps; a nearly cold softmax takes its luck away, so that rows can be compared."""
    peer = peer_of(name, chunks).eval()
    if name == "vqbet":
        peer.policy.config.bet_softmax_temperature = 1e-6
        peer.policy.vqbet.action_head.vqvae_model.discretized.fill_(True)
    ends = {4: 5, 7: 21, 8: 11, 9: 30}  # episode -> length; they end in the middle of chunks
    generator = torch.Generator().manual_seed(1)
    seen = {episode: torch.randn(length, STATE + GOAL, generator=generator) for episode, length in ends.items()}

    def observed(rows):
        return {OBS_STATE: rows[:, :STATE], OBS_ENV_STATE: rows[:, STATE:], "task": ["Make noise."] * len(rows)}

    peer.reset()
    together = {episode: [] for episode in ends}
    for step in range(max(ends.values())):
        alive = [episode for episode, length in ends.items() if step < length]
        batch = observed(torch.stack([seen[episode][step] for episode in alive]))
        chunk = peer.predict_action_chunk({**batch, "episode_index": torch.tensor(alive)})
        assert chunk.shape == (len(alive), 1, ACTIONS)
        for episode, action in zip(alive, chunk[:, 0], strict=True):
            together[episode].append(action)
    for episode, length in ends.items():
        peer.policy.reset()
        for step in range(length):
            batch = peer.preprocess(peer.inputs(observed(seen[episode][step : step + 1])))
            alone = peer.postprocess(peer.policy.select_action(batch))[0]
            torch.testing.assert_close(together[episode][step], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(peer_policies.PEERS))
def test_every_policy_has_a_loss_with_gradients_and_reads_the_environment_state(name, chunks):
    peer = peer_of(name, chunks)
    samples = PeerData(chunks, peer.policy.config)
    loss, _ = peer(samples.batch(torch.arange(8)))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in peer.parameters())
    state = peer.policy.config.robot_state_feature.shape[0]
    environment = peer.policy.config.env_state_feature
    assert state + (environment.shape[0] if environment else 0) == STATE + GOAL


def test_an_observation_that_never_moved_reads_as_zero():
    values = torch.cat([torch.randn(50, 1), torch.full((50, 1), 0.7)], 1)
    found = statistics({OBS_STATE: values}, values)[OBS_STATE]
    low, high, std = (found[key][1] for key in ("min", "max", "std"))
    moved = 0.9
    assert abs(2 * (moved - low) / (high - low) - 1) < 1e-5
    assert abs((moved - found["mean"][1]) / std) < 1e-5
    assert found["max"][0] < UNSEEN


@pytest.mark.parametrize("policy", ["vqbet", "gaussian_diffusion"])
def test_a_cell_is_a_function_of_its_seed(policy, lift_root, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "so101_lift").symlink_to(lift_root)
    cell = Cell(tmp_path, "so101_lift", policy, seed=1, budget="samples=128", episodes=2)
    first = run_cell(cell)
    assert first == cell.result()
    assert first["steps"] == 2
    measured = ("cpu_s", "samples_per_s", "latency_ms", "memory_mib")
    same = {key: value for key, value in first.items() if not key.endswith(measured)}
    again = run_cell(cell)
    assert {key: again[key] for key in same} == same
    with pytest.raises(ConfigError, match="episodes"):
        replace(cell, episodes=3).result()


def test_a_table_pools_the_seeds(tmp_path):
    numbers = dict.fromkeys(
        ("params", "steps", "train_cpu_s", "samples_per_s", "chunk_latency_ms", "training_memory_mib"), 7.0
    )
    shared = {"demos": 50, "budget": "samples=64", "episodes": 10, "step_limit": 99, **numbers}
    cells = [Cell(tmp_path, "pusht", "mip", seed, "samples=64", 10) for seed in range(3)]
    for cell, successes in zip(cells[:2], (1, 9), strict=True):  # the third has not run yet
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        found = {"task": "pusht", "policy": "mip", "successes": successes, "mean_max_reward": successes / 10}
        found |= {"nll_nats_per_value": None, **shared}
        cell.path.write_text(json.dumps(found))
    line = peers.table("pusht", cells, ["mip"]).splitlines()[-1]
    assert "| 10/20 = 50% [30%, 70%] | 10%, 90% | 0.500 |" in line
    lines = peers.overview(cells, ["pusht", "lift"], ["mip", "act"]).splitlines()
    assert lines[-1] == "| mip | 10/20 = 50% [30%, 70%] |  |"  # no line for a policy without a cell


def write_cell(folder, policy, seed, outcomes, **changes):
    cell = Cell(folder, "pusht", policy, seed, "samples=64", len(outcomes))
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    found = {"policy": policy, "seed": seed, "episodes": len(outcomes), "successes": sum(outcomes)}
    cell.path.write_text(json.dumps({**found, "outcomes": outcomes, **changes}))
    return cell


def test_policies_are_paired_by_training_seed_and_episode(tmp_path):
    cells = [write_cell(tmp_path, "mip", seed, [True] * (10 - seed) + [False] * seed) for seed in range(3)]
    cells += [write_cell(tmp_path, "act", seed, [False] * 4 + [True] * 6) for seed in range(2)]
    text = peers.paired(cells, ["mip", "act"], "mip")
    *_, line = text.splitlines()
    low, high = (100 * limit for limit in paired_interval(1, 8, 20))
    assert line.startswith(f"| LeRobot act | -35.0 [{low:+.1f}, {high:+.1f}] |")
    assert line.endswith("| 1 | 8 | 20 | 0.039 | 0.039 |")  # of the two training seeds that both have
    assert "minus mip, points [95 % Tango]" in text


def test_cells_of_an_earlier_version_are_read_but_not_paired(tmp_path):
    cells = [write_cell(tmp_path, "mip", 0, [True, False])]
    cells.append(write_cell(tmp_path, "act", 0, [True, True]))
    old = json.loads(cells[1].path.read_text())
    del old["outcomes"]
    cells[1].path.write_text(json.dumps(old))
    text = peers.paired(cells, ["mip", "act"], "mip")
    assert "- LeRobot act: a cell of an earlier version without the outcome of each episode" in text
    assert "| p |" not in text
    assert "has no cell of this task" in peers.paired(cells, ["mip", "act"], "regression")
    assert peers.paired(cells[:1], ["mip", "act"], "mip") == ""


@pytest.mark.parametrize("text", ["samples", "samples=", "minutes=3", "seconds=0", "seconds=-1", "seconds=nan"])
def test_a_wrong_budget_is_refused(text):
    with pytest.raises(ConfigError, match="budget"):
        budget_of(text)
