import importlib.util

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from anyorder.datasets.write.recording import roll_out
from anyorder.envs.aloha.env import AlohaConfig
from anyorder.errors import ConfigError, EnvError

needs_aloha = pytest.mark.skipif(importlib.util.find_spec("gym_aloha") is None, reason="needs the extra aloha")

TASKS = ("transfer_cube", "insertion")


@pytest.fixture(scope="module", params=TASKS)
def made(request):
    config = AlohaConfig(request.param)
    return config.build(), config.expert()


@needs_aloha
@pytest.mark.filterwarnings("ignore")
def test_gymnasium_accepts_it(made):
    check_env(made[0], skip_render_check=True)


@needs_aloha
def test_names_fit_the_spaces(made):
    env = made[0]
    objects = {"transfer_cube": 1, "insertion": 2}[env.task]
    assert len(env.state_names) == env.observation_space["agent_pos"].shape[0] == 14
    assert len(env.environment_names) == env.observation_space["environment_state"].shape[0] == 7 * objects
    assert len(env.action_names) == env.action_space.shape[0] == 14
    assert env.metadata["render_fps"] == 50
    assert env.action_space.low[6] == 0
    assert env.action_space.high[6] == 1
    assert env.action_space.high[0] == pytest.approx(np.pi, abs=1e-4)


@needs_aloha
def test_the_expert_succeeds_and_a_seed_determines_the_episode(made):
    env, expert = made
    frames, success = roll_out(env, expert, seed=1)
    assert success
    assert len(frames) < 400
    other, _ = roll_out(env, expert, seed=2)
    assert not np.array_equal(frames[0]["observation.environment_state"], other[0]["observation.environment_state"])
    fresh = AlohaConfig(env.task)
    again, _ = roll_out(fresh.build(), fresh.expert(), seed=1)
    assert len(again) == len(frames)
    for frame, same in zip(frames, again, strict=True):
        assert all(np.array_equal(frame[key], same[key]) for key in frame)


@needs_aloha
def test_the_objects_lie_where_gym_aloha_puts_them(made):
    from gym_aloha.utils import sample_box_pose, sample_insertion_pose

    env = made[0]
    observation, info = env.reset(seed=5)
    expected = sample_box_pose(5) if env.task == "transfer_cube" else np.concatenate(sample_insertion_pose(5))
    np.testing.assert_allclose(observation["environment_state"], expected, atol=1e-6)
    assert info == {"is_success": False}


@needs_aloha
def test_two_environments_do_not_disturb_each_other():
    config = AlohaConfig()
    one, two = config.build(), config.build()
    first, _ = one.reset(seed=1)
    two.reset(seed=2)
    action = first["agent_pos"]
    after = one.step(action)[0]
    alone = config.build()
    alone.reset(seed=1)
    expected = alone.step(action)[0]
    for key, values in expected.items():
        np.testing.assert_array_equal(after[key], values)


@needs_aloha
def test_our_task_does_not_change_gym_alohas():
    from gym_aloha.tasks.sim import TransferCubeTask

    before = TransferCubeTask.get_observation
    AlohaConfig().build()
    assert TransferCubeTask.get_observation is before


@needs_aloha
def test_an_episode_is_cut_off():
    env = AlohaConfig(max_episode_steps=2).build()
    observation, _ = env.reset(seed=0)
    ends = [env.step(observation["agent_pos"])[2:4] for _ in range(2)]
    assert ends == [(False, False), (False, True)]


@needs_aloha
def test_a_simulation_thrown_off_ends_the_episode_as_failed(made, monkeypatch):
    from dm_control.rl.control import PhysicsError

    env, _ = made
    observation, _ = env.reset(seed=0)
    simulation = env.unwrapped._sim

    def explode(action):
        raise PhysicsError("mjWARN_BADQACC")

    with monkeypatch.context() as patch:
        patch.setattr(simulation, "step", explode)
        last, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert info == {"is_success": False, "diverged": True}
    np.testing.assert_array_equal(last["agent_pos"], observation["agent_pos"])
    again, _ = env.reset(seed=0)
    np.testing.assert_array_equal(again["environment_state"], observation["environment_state"])


@needs_aloha
def test_cameras():
    env = AlohaConfig(cameras=["top", "left_wrist"], image_width=40, image_height=32).build()
    try:
        observation, _ = env.reset(seed=0)
    except EnvError as error:
        pytest.skip(str(error))
    assert {name: image.shape for name, image in observation["pixels"].items()} == {
        "top": (32, 40, 3),
        "left_wrist": (32, 40, 3),
    }
    assert observation["pixels"]["top"].std() > 10
    assert env.render().shape == (360, 480, 3)
    env.close()


@needs_aloha
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_experts_nearly_always_succeed(task):
    config = AlohaConfig(task)
    env, expert = config.build(), config.expert()
    assert sum(roll_out(env, expert, seed)[1] for seed in range(20)) >= 19


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "cube"}, "^task: 'cube' given, allowed: transfer_cube, insertion"),
        ({"cameras": ["front"]}, "^cameras: "),
        ({"max_episode_steps": 0}, "^max_episode_steps: 0 given"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        AlohaConfig(**options)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for make in (AlohaConfig().build, AlohaConfig().expert):
        with pytest.raises(EnvError, match=r"pip install '\.\[aloha\]'"):
            make()
