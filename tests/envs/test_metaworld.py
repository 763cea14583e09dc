import importlib.util

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from anyorder.datasets.write.recording import roll_out
from anyorder.envs.metaworld import env as module
from anyorder.envs.metaworld.env import MetaworldConfig
from anyorder.errors import ConfigError, EnvError

needs_metaworld = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs the extra metaworld")


@pytest.fixture(scope="module")
def env():
    return MetaworldConfig().build()


@needs_metaworld
@pytest.mark.filterwarnings("ignore")
def test_gymnasium_accepts_it(env):
    check_env(env, skip_render_check=True)
    assert isinstance(env.observation_space, gym.spaces.Dict)


@needs_metaworld
def test_names_fit_the_spaces(env):
    assert len(env.state_names) == env.observation_space["agent_pos"].shape[0] == 4
    assert len(env.environment_names) == env.observation_space["environment_state"].shape[0] == 35
    assert len(set(env.environment_names)) == 35
    assert len(env.action_names) == env.action_space.shape[0] == 4
    assert env.metadata["render_fps"] == 80
    assert env.task_description == "Pick up the object and bring it to the goal."


@needs_metaworld
def test_a_seed_determines_the_episode(env):
    expert = MetaworldConfig(expert_noise=0.2).expert()
    first, success = roll_out(env, expert, seed=3)
    roll_out(env, expert, seed=4)
    again, _ = roll_out(env, expert, seed=3)
    fresh, _ = roll_out(MetaworldConfig().build(), MetaworldConfig(expert_noise=0.2).expert(), seed=3)
    for other in (again, fresh):
        assert len(other) == len(first)
        for frame, same in zip(first, other, strict=True):
            assert all(np.array_equal(frame[key], same[key]) for key in frame)
    assert success


@needs_metaworld
def test_objects_and_goals_vary_with_the_seed_and_are_seen(env):
    states = [env.reset(seed=seed)[0]["environment_state"] for seed in range(5)]
    objects, goals = [state[:2] for state in states], [state[-3:] for state in states]
    assert len({tuple(place) for place in objects}) == 5
    assert len({tuple(goal) for goal in goals}) == 5
    after = env.step(env.action_space.sample())[0]["environment_state"]
    np.testing.assert_array_equal(after[-3:], goals[-1])  # not clipped away


@needs_metaworld
@pytest.mark.parametrize("task", ["reach-v3", "pick-place-v3", "drawer-open-v3"])
def test_experts_succeed_and_success_ends_the_episode(task):
    config = MetaworldConfig(task)
    env, expert = config.build(), config.expert()
    for seed in range(3):
        frames, success = roll_out(env, expert, seed)
        assert success
        assert len(frames) < 150


@needs_metaworld
def test_an_episode_is_cut_off(env):
    short = MetaworldConfig(max_episode_steps=3).build()
    short.reset(seed=0)
    ends = [short.step(np.zeros(4, dtype=np.float32))[2:] for _ in range(3)]
    assert [(terminated, truncated) for terminated, truncated, _ in ends] == [(False, False)] * 2 + [(False, True)]
    assert ends[-1][2] == {"is_success": False}


@needs_metaworld
@pytest.mark.slow
@pytest.mark.parametrize("task", module._SENTENCES)
def test_every_task_has_an_expert(task):
    config = MetaworldConfig(task)
    env, expert = config.build(), config.expert()
    assert sum(roll_out(env, expert, seed)[1] for seed in range(5)) >= 3


@needs_metaworld
def test_the_list_of_tasks_is_metaworlds():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(module._SENTENCES) == set(ALL_V3_ENVIRONMENTS)


@needs_metaworld
def test_cameras(env):
    config = MetaworldConfig(cameras=["corner2"], image_width=40, image_height=32)
    seeing = config.build()
    try:
        observation, _ = seeing.reset(seed=0)
    except EnvError as error:
        pytest.skip(str(error))
    image = observation["pixels"]["corner2"]
    assert image.shape == (32, 40, 3)
    assert image.std() > 10
    assert seeing.render().shape == (360, 480, 3)
    seeing.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "pick-plase-v3"}, "^task: .* did you mean 'pick-place-v3'"),
        ({"cameras": ["front"]}, "^cameras: "),
        ({"max_episode_steps": 501}, "^max_episode_steps: 501 given"),
        ({"expert_noise": -1.0}, "^expert_noise: "),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        MetaworldConfig(**options)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (MetaworldConfig().build, MetaworldConfig().expert):
        with pytest.raises(EnvError, match=r"pip install '\.\[metaworld\]'"):
            make()
