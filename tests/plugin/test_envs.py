"""This package's environments inside LeRobot's evaluation."""

import json
import subprocess
import sys
from dataclasses import dataclass

import draccus
import numpy as np
import pytest
from lerobot.configs import FeatureType
from lerobot.envs import make_env
from lerobot.envs.configs import EnvConfig as LeRobotEnvConfig
from lerobot.envs.utils import NEW_ROLLOUT_OPTION, env_to_policy_features
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from lerobot.scripts.lerobot_eval import eval_policy_all

import lerobot_policy_anyorder  # noqa: F401  (registers the types)
from anyorder.envs import EnvConfig
from anyorder.envs.lerobot_names import policy_shapes
from anyorder.errors import ConfigError, EnvError
from anyorder.plugin.envs import describe, register_env_types
from anyorder.plugin.excepthook import user_error
from tests.plugin import countdown  # noqa: F401  (joins the family of environments)
from tests.plugin.still import still_policy

register_env_types()  # again, as the toy joined the family after the plugin was loaded


@dataclass
class Command:
    env: LeRobotEnvConfig


def parse(*words):
    return draccus.parse(Command, args=list(words)).env


def evaluate(envs, policy, episodes, **settings):
    nothing = PolicyProcessorPipeline(steps=[])
    post = PolicyProcessorPipeline(
        steps=[], to_transition=policy_action_to_transition, to_output=transition_to_policy_action
    )
    return eval_policy_all(envs, policy, nothing, nothing, nothing, post, n_episodes=episodes, start_seed=0, **settings)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_lerobot_eval_reports_exact_returns_and_successes(batch_size):
    episodes = 24
    found = evaluate(make_env(parse("--env.type=anyorder_countdown"), batch_size), still_policy(), episodes)
    metrics = found["per_task"][0]["metrics"]
    lengths = [seed % 7 + 1 for seed in range(episodes)]
    assert metrics["sum_rewards"] == [99 + length for length in lengths]
    assert metrics["successes"] == [length % 2 == 1 for length in lengths]


@pytest.mark.slow
def test_asynchronous_evaluation_gives_the_same():
    config = parse("--env.type=anyorder_countdown")
    asynchronous = evaluate(make_env(config, 3, use_async_envs=True), still_policy(), 6)
    together = evaluate(make_env(config, 3), still_policy(), 6)
    for found in (asynchronous, together):
        del found["overall"]["eval_s"], found["overall"]["eval_ep_s"]
    assert asynchronous == together


def test_lerobots_own_vector_environment_reports_a_return_that_is_too_high(monkeypatch):
    # The reason for SingleEpisode; when this fails LeRobot has repaired it, and the class can go.
    monkeypatch.setattr("anyorder.plugin.episodes.SingleEpisode.reset", lambda self, **k: self.env.reset(**k))
    monkeypatch.setattr("anyorder.plugin.episodes.SingleEpisode.step", lambda self, action: self.env.step(action))
    found = evaluate(make_env(parse("--env.type=anyorder_countdown"), 8), still_policy(), 8)
    assert found["per_task"][0]["metrics"]["sum_rewards"][0] == 100 + 100


def test_nothing_is_simulated_or_drawn_after_an_episode(tmp_path):
    envs = make_env(parse("--env.type=anyorder_countdown"), 7)
    vector = envs["anyorder_countdown"][0]
    evaluate(envs, still_policy(), 7)
    assert [env.unwrapped.steps_simulated for env in vector.envs] == [1, 2, 3, 4, 5, 6, 7]
    assert [env.unwrapped.pictures for env in vector.envs] == [0] * 7
    found = evaluate(envs, still_policy(), 7, max_episodes_rendered=2, videos_dir=tmp_path)
    # One when it begins, one a step before the end, one for the end.
    assert [env.unwrapped.pictures for env in vector.envs] == [2, 3, 0, 0, 0, 0, 0]
    assert len(found["overall"]["video_paths"]) == 2


def test_only_lerobots_option_begins_another_episode():
    (vector,) = make_env(parse("--env.type=anyorder_countdown"), 1)["anyorder_countdown"].values()
    env = vector.envs[0]
    env.reset(seed=0)
    last, *_ = env.step(np.zeros(2))
    assert env.reset(seed=4)[0] is last
    observation, _ = env.reset(seed=4, options={NEW_ROLLOUT_OPTION: True})
    assert observation["agent_pos"].tolist() == [0, 5]


FAMILIES = [name for name, kind in EnvConfig.choices.items() if kind.__module__.startswith("anyorder.")]


def test_no_environment_is_lost():
    assert {"so101", "aloha", "metaworld", "pusht"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_types_describe_what_their_environment_gives(family):
    try:
        EnvConfig.choices[family]().build().close()
    except EnvError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))
    config = LeRobotEnvConfig.get_choice_class(f"anyorder_{family}")()
    env = config.settings().build()
    features = env_to_policy_features(config)
    action = features.pop("action")
    assert {name: tuple(f.shape) for name, f in features.items()} == policy_shapes(env)
    assert (action.type, action.shape) == (FeatureType.ACTION, env.action_space.shape)
    assert config.fps == env.metadata["render_fps"]
    env.close()


def test_settings_are_options_of_the_command_line():
    env = parse("--env.type=anyorder_so101", "--env.task=push", '--env.cameras=["front"]', "--env.image_width=64")
    assert env.settings() == EnvConfig.named("so101", task="push", cameras=["front"], image_width=64)
    features = env_to_policy_features(env)
    assert features["observation.images.front"].shape == (3, 96, 64)
    assert features["observation.images.front"].type is FeatureType.VISUAL
    assert features["observation.environment_state"].type is FeatureType.ENV


def test_saved_settings_read_back():
    config = Command(parse("--env.type=anyorder_so101", "--env.task=stack"))
    plain = json.loads(json.dumps(draccus.encode(config), default=str))
    assert draccus.decode(Command, plain) == config


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--env.task=fly"], "env.task: 'fly' given, allowed: either, lift"),
        (['--env.cameras=["back"]'], "env.cameras: "),
        (["--env.fps=20"], "env.fps: 20 given, allowed: 30"),
    ],
)
def test_wrong_settings_are_one_line(words, message):
    with pytest.raises(draccus.utils.ParsingError) as error:
        parse("--env.type=anyorder_so101", *words)
    cause = user_error(error.value)  # what the commands print
    assert isinstance(cause, ConfigError)
    assert str(cause).startswith(message)
    assert "\n" not in str(cause)


def test_workers_load_neither_lerobot_nor_torch():
    code = (
        "import sys; import anyorder.plugin.episodes; from anyorder.envs import EnvConfig;"
        "EnvConfig.named('so101').build();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'lerobot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


WORKERS = """
import multiprocessing, sys
from contextlib import nullcontext
from anyorder.plugin.episodes import without_main

print("loaded", flush=True)
if __name__ == "__main__":
    with without_main() if {hidden} else nullcontext():
        worker = multiprocessing.get_context("{method}").Process(target=print, args=("worked",))
        worker.start()
    worker.join()
    assert sys.modules["__main__"].__name__ == "__main__"
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize("hidden", [True, False])
def test_workers_do_not_load_the_running_program(hidden, method, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(WORKERS.format(hidden=hidden, method=method))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["loaded", *([] if hidden else ["loaded"]), "worked"]


def test_describing_an_environment_builds_it_once():
    options = json.dumps(EnvConfig.named("so101").options(), sort_keys=True)
    assert describe("so101", options) is describe("so101", options)
