"""The contract of an environment and its expert as a check, for environments that are not ours, too."""

import json
from typing import Any

import gymnasium as gym
import numpy as np

from anyorder.envs.base import EnvConfig, Observation

STEPS = 20
"""The checks play so many steps of an episode, or until it ends."""


def check_environment(config: EnvConfig) -> list[str]:
    """Check what ``EnvConfig.build`` and ``EnvConfig.expert`` promise, on some steps of two episodes.

    Args:
        config: settings of the environment.

    Returns:
        The names of the checks that were done.

    Raises:
        AssertionError: what is broken.
        EnvError: its simulator is not installed.
    """
    env = config.build()
    try:
        checks = (settings_survive_json, names_fit_spaces, a_seed_determines_an_episode, the_expert_acts)
        for check in checks:
            check(config, env)
    finally:
        env.close()
    return [check.__name__ for check in checks]


def settings_survive_json(config: EnvConfig, env: gym.Env) -> None:
    """Check that the settings can be written into a file and read back."""
    options = json.loads(json.dumps(config.options()))
    again = EnvConfig.named(config.choice, **options)
    assert again.options() == config.options(), f"{options} became {again.options()}"


def names_fit_spaces(config: EnvConfig, env: gym.Env) -> None:
    """Check the spaces, that each dimension has a name, and what else an environment says of itself."""
    world: Any = env.unwrapped
    spaces: Any = env.observation_space
    named = {"agent_pos": "state_names", "environment_state": "environment_names"}
    boxes: dict[str, Any] = {name: spaces[raw] for raw, name in named.items() if raw in spaces.spaces}
    assert "state_names" in boxes, "observations lack agent_pos"
    boxes["action_names"] = env.action_space
    for name, box in boxes.items():
        assert isinstance(box, gym.spaces.Box), f"{name}: its space is no Box but {box}"
        assert box.dtype == np.float32, f"{name}: its space is of {box.dtype}, not float32"
        names = getattr(world, name)
        assert box.shape == (len(names),), f"{name}: {len(names)} names for values of shape {box.shape}"
        assert len(set(names)) == len(names), f"{name}: two dimensions have one name"
    assert set(spaces.spaces) <= {*named, "pixels"}, f"observations hold {set(spaces.spaces)}"
    assert world.task == config.task, f"task is {world.task!r}, the settings say {config.task!r}"
    assert world.task_description.endswith("."), "task_description is no sentence"
    assert world.max_episode_steps >= 1, f"max_episode_steps is {world.max_episode_steps}"
    assert env.metadata["render_fps"] > 0, "metadata has no control rate"


def a_seed_determines_an_episode(config: EnvConfig, env: gym.Env) -> None:
    """Check that an episode follows from its seed, and that another seed gives another one."""
    first, again = play(config, env, seed=3), play(config, env, seed=3)
    assert len(first) == len(again), "the same seed gave episodes of different length"
    for step, (one, two) in enumerate(zip(first, again, strict=True)):
        assert same(one, two), f"the same seed gave different observations at step {step}"
    assert not same(first[0], play(config, env, seed=4, steps=0)[0]), "two seeds gave the same first observation"


def the_expert_acts(config: EnvConfig, env: gym.Env) -> None:
    """Check that the expert's actions fit the environment, and what a step returns."""
    space: Any = env.action_space
    expert = config.expert()
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation), "reset gave an observation outside of its space"
    assert info["is_success"] is False, "an episode begins with is_success"
    expert.reset(env, 0)
    for _ in range(min(STEPS, env.unwrapped.max_episode_steps)):  # type: ignore[attr-defined]
        action = np.asarray(expert.act(env, observation))
        assert action.shape == space.shape, f"the expert's action is of shape {action.shape}, not {space.shape}"
        assert np.isfinite(action).all(), "the expert's action is not finite"
        observation, reward, terminated, truncated, info = env.step(action)
        assert env.observation_space.contains(observation), "step gave an observation outside of its space"
        assert np.isfinite(float(reward)), f"reward is {reward}"
        assert isinstance(info["is_success"], bool), "info has no is_success that is true or false"
        if terminated or truncated:
            return


def play(config: EnvConfig, env: gym.Env, seed: int, steps: int = STEPS) -> list[Observation]:
    """Return the observations of the first steps of an episode that the expert plays."""
    expert = config.expert()
    observation, _ = env.reset(seed=seed)
    expert.reset(env, seed)
    seen = [copied(observation)]
    for _ in range(steps):
        observation, _, terminated, truncated, _ = env.step(expert.act(env, observation))
        seen.append(copied(observation))
        if terminated or truncated:
            break
    return seen


def copied(observation: Observation) -> Observation:
    """Return a copy that no later step can change."""
    return {name: copied(value) if isinstance(value, dict) else np.array(value) for name, value in observation.items()}


def same(one: Observation, two: Observation) -> bool:
    """Tell whether two observations hold the same values."""
    return one.keys() == two.keys() and all(
        same(one[name], two[name]) if isinstance(one[name], dict) else np.array_equal(one[name], two[name])
        for name in one
    )
