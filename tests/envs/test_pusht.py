import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from anyorder.datasets.write.recording import roll_out
from anyorder.envs.pusht.env import BLOCK_KEYPOINTS, GOAL_POSE, PushtConfig
from anyorder.errors import ConfigError, EnvError

needs_pusht = pytest.mark.skipif(importlib.util.find_spec("gym_pusht") is None, reason="needs the extra pusht")


@pytest.fixture(scope="module")
def env():
    return PushtConfig().build()


@pytest.fixture(scope="module")
def expert():
    return PushtConfig().expert()


@needs_pusht
@pytest.mark.filterwarnings("ignore")
def test_gymnasium_accepts_it(env):
    check_env(env, skip_render_check=True)


@needs_pusht
def test_names_fit_the_spaces(env):
    assert len(env.state_names) == env.observation_space["agent_pos"].shape[0] == 2
    assert len(env.environment_names) == env.observation_space["environment_state"].shape[0] == 16
    assert len(env.action_names) == env.action_space.shape[0] == 2
    assert env.metadata["render_fps"] == 10
    assert env.max_episode_steps == 300
    assert env.action_space.low.tolist() == [0, 0]
    assert env.action_space.high.tolist() == [512, 512]


@needs_pusht
def test_the_seed_alone_determines_an_episode(env):
    def walk(made):
        first, _ = made.reset(seed=7)
        rng = np.random.default_rng(0)
        rest = [made.step(rng.uniform(0, 512, 2).astype(np.float32)) for _ in range(30)]
        return [first, *(step[0] for step in rest)], [step[1] for step in rest]

    env.reset(seed=1)
    env.step(np.zeros(2, np.float32))
    np.random.seed(123)  # which gym-pusht must not read
    observations, rewards = walk(env)
    np.random.seed(321)
    again, same_rewards = walk(PushtConfig().build())
    assert rewards == same_rewards
    for one, two in zip(observations, again, strict=True):
        assert all(np.array_equal(one[key], two[key]) for key in one)
    other, _ = env.reset(seed=8)
    assert not np.array_equal(other["environment_state"], observations[0]["environment_state"])
    assert not np.array_equal(other["agent_pos"], observations[0]["agent_pos"])


ROLLED = """
import hashlib
from anyorder.envs.pusht import PushtConfig

for noise, cameras, seed in ((0.0, [], 0), (0.0, [], 1), (5.0, ["top"], 0)):
    config = PushtConfig(cameras=cameras, expert_noise=noise)
    env, expert, seen = config.build(), config.expert(), hashlib.sha256()
    observation, _ = env.reset(seed=seed)
    expert.reset(env, seed)
    for _ in range(70):
        action = expert.act(env, observation)
        observation, reward, terminated, truncated, info = env.step(action)
        pictures = observation.get("pixels", {}).values()
        for values in (action, observation["agent_pos"], observation["environment_state"], *pictures):
            seen.update(values.tobytes())
        seen.update(repr((reward, terminated, truncated, info)).encode())
    print(seen.hexdigest())
"""
"""Prints what the expert's episodes are, to the last bit."""


@needs_pusht
def test_the_seed_alone_determines_an_episode_in_every_process():
    def child(hash_seed):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.Popen([sys.executable, "-c", ROLLED], env=environment, stdout=subprocess.PIPE, text=True)

    children = [child(hash_seed) for hash_seed in ("0", "1", "random")]
    told = [made.communicate()[0].splitlines() for made in children]
    assert len(set(told[0])) == 3
    assert told[0] == told[1] == told[2]


@needs_pusht
def test_coverage_does_not_depend_on_the_order_of_the_blocks_shapes(env, expert, monkeypatch):
    def coverages(backwards):
        def shapes(body):
            return sorted(body._shapes, key=lambda shape: shape._id, reverse=backwards)

        monkeypatch.setattr("pymunk.Body.shapes", property(shapes))
        observation, _ = env.reset(seed=0)
        expert.reset(env, 0)
        told = []
        for _ in range(40):
            observation, reward, _, _, info = env.step(expert.act(env, observation))
            told.append((reward, info["coverage"]))
        return told

    assert coverages(False) == coverages(True)


@needs_pusht
def test_resets_without_a_seed_go_on_from_the_last_one(env):
    def places():
        env.reset(seed=3)
        return [env.reset()[0]["agent_pos"].tolist() for _ in range(3)]

    first = places()
    assert first == places()
    assert len({tuple(place) for place in first}) == 3


@needs_pusht
def test_keypoints_are_the_blocks_corners_and_move_rigidly(env, expert):
    corners = np.array(BLOCK_KEYPOINTS)
    distances = np.linalg.norm(corners[:, None] - corners, axis=-1)
    frames, _ = roll_out(env, expert, seed=0)
    states = np.stack([frame["observation.environment_state"] for frame in frames]).reshape(-1, 8, 2)
    assert np.linalg.norm(states[-1] - states[0], axis=-1).max() > 20
    seen = np.linalg.norm(states[:, :, None] - states[:, None], axis=-1)
    np.testing.assert_allclose(seen, np.broadcast_to(distances, seen.shape), atol=1e-2)


@needs_pusht
def test_at_the_goal_the_block_covers_its_outline(env):
    env.reset(seed=0)
    block = env._sim.block
    block.angle = GOAL_POSE[2]
    block.position = GOAL_POSE[:2]
    env._sim.agent.position = (30.0, 30.0)
    observation, reward, terminated, truncated, info = env.step(np.array([30.0, 30.0], np.float32))
    assert info["coverage"] == pytest.approx(1.0, abs=1e-6)
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)
    cos, sin = np.cos(GOAL_POSE[2]), np.sin(GOAL_POSE[2])
    expected = np.array(BLOCK_KEYPOINTS) @ np.array([[cos, sin], [-sin, cos]]) + GOAL_POSE[:2]
    np.testing.assert_allclose(observation["environment_state"].reshape(8, 2), expected, atol=1e-3)


@needs_pusht
def test_actions_beyond_the_table_are_clipped_to_it(env):
    def after(action):
        env.reset(seed=2)
        return [env.step(np.array(action, np.float32))[0]["agent_pos"].tolist() for _ in range(5)]

    assert after([-300.0, 900.0]) == after([0.0, 512.0])
    assert after([0.0, 512.0]) != after([10.0, 500.0])


@needs_pusht
def test_an_episode_is_cut_off():
    env = PushtConfig(max_episode_steps=2).build()
    observation, info = env.reset(seed=0)
    assert info == {"is_success": False}
    ends = [env.step(observation["agent_pos"])[2:4] for _ in range(2)]
    assert ends == [(False, False), (False, True)]


@needs_pusht
def test_nothing_is_rendered_unless_cameras_are_asked_for(env, monkeypatch):
    def draw(self):
        raise AssertionError("rendered")

    monkeypatch.setattr(type(env._sim), "_draw", draw)
    observation, _ = env.reset(seed=0)
    assert set(env.step(observation["agent_pos"])[0]) == {"agent_pos", "environment_state"}
    seeing = PushtConfig(cameras=["top"]).build()
    with pytest.raises(AssertionError, match="rendered"):
        seeing.reset(seed=0)


@needs_pusht
def test_the_camera_sees_the_scene():
    env = PushtConfig(cameras=["top"], image_width=48, image_height=40).build()
    observation, _ = env.reset(seed=0)
    image = observation["pixels"]["top"]
    assert image.shape == (40, 48, 3)
    assert env.observation_space.contains(observation)
    x, y = observation["agent_pos"] * (48, 40) / 512
    assert image[int(y), int(x)].tolist() == pytest.approx([65, 105, 225], abs=40)  # gym-pusht's royal blue
    after = env.step(np.array([500.0, 500.0], np.float32))[0]["pixels"]["top"]
    assert not np.array_equal(after, image)
    assert env.render().shape == (480, 480, 3)
    env.close()


@needs_pusht
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_expert_succeeds_smoothly_and_within_bounds(env, expert, seed):
    frames, success = roll_out(env, expert, seed)
    assert success
    assert len(frames) < 200
    actions = np.stack([frame["action"] for frame in frames])
    places = np.stack([frame["observation.state"] for frame in frames])
    assert actions.dtype == np.float32
    assert 0 <= actions.min() <= actions.max() <= 512
    assert np.linalg.norm(actions - places, axis=1).max() < 60
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 25


@needs_pusht
def test_the_expert_is_a_function_of_the_observation(env, expert):
    frames, _ = roll_out(env, expert, seed=4)
    fresh = PushtConfig().expert()
    fresh.reset(env, seed=99)
    for frame in frames[::-7]:
        state = {"agent_pos": frame["observation.state"], "environment_state": frame["observation.environment_state"]}
        np.testing.assert_array_equal(fresh.act(env, state), frame["action"])


@needs_pusht
def test_noise_follows_from_the_seed(env):
    def actions(noise, seed):
        made = PushtConfig(expert_noise=noise).expert()
        observation, _ = env.reset(seed=5)
        made.reset(env, seed)
        return np.stack([made.act(env, observation) for _ in range(20)])

    np.testing.assert_array_equal(actions(3.0, 1), actions(3.0, 1))
    assert not np.array_equal(actions(3.0, 1), actions(3.0, 2))
    assert 1.5 < actions(3.0, 1).std(axis=0).mean() < 4.5
    assert np.ptp(actions(0.0, 1), axis=0).max() == 0


@needs_pusht
@pytest.mark.slow
def test_the_expert_nearly_always_succeeds(env, expert):
    assert sum(roll_out(env, expert, seed)[1] for seed in range(50)) >= 47


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "cube"}, "^task: 'cube' given, allowed: pusht"),
        ({"cameras": ["front"]}, r"^cameras: \['front'\] given"),
        ({"image_width": 0}, "^image_width: 0 given"),
        ({"max_episode_steps": 0}, "^max_episode_steps: 0 given"),
        ({"expert_noise": -1.0}, "^expert_noise: -1.0 given"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        PushtConfig(**options)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (PushtConfig().build, PushtConfig().expert):
        with pytest.raises(EnvError, match=r"pip install '\.\[pusht\]'"):
            make()
