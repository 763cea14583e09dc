"""An environment whose return is known. Worker processes import this, so neither LeRobot nor torch appears here."""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np

from anyorder.envs.base import EnvConfig


@dataclass
class CountdownConfig(EnvConfig, choice="countdown"):
    """Ends after ``seed % spread + 1`` steps."""

    task: str = "count"
    spread: int = 7
    cameras: list[str] = field(default_factory=list)
    rate: int = 30

    def build(self):
        return CountdownEnv(self)

    def expert(self):
        raise NotImplementedError


class CountdownEnv(gym.Env):
    """Every step is worth 1, the first one of an episode 100: an episode of n steps returns 99 + n.

    Odd lengths succeed. ``steps_simulated`` and ``pictures`` count the work done.
    """

    render_mode = "rgb_array"
    task_description = "Count down."
    max_episode_steps = 12

    def __init__(self, config):
        self.config = config
        self.task = config.task
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": config.rate}
        self.observation_space = gym.spaces.Dict(
            {
                "agent_pos": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "environment_state": gym.spaces.Box(-np.inf, np.inf, (1,), np.float32),
            }
        )
        if config.cameras:
            picture = gym.spaces.Box(0, 255, (8, 16, 3), np.uint8)
            self.observation_space["pixels"] = gym.spaces.Dict(dict.fromkeys(config.cameras, picture))
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.steps_simulated = self.pictures = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length = (int(self.np_random.integers(1000)) if seed is None else seed) % self.config.spread + 1
        self.steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action):
        self.steps += 1
        self.steps_simulated += 1
        done = self.steps >= self.length
        reward = 100.0 if self.steps == 1 else 1.0
        return self.observe(), reward, done, False, {"is_success": done and self.length % 2 == 1}

    def observe(self):
        observation = {
            "agent_pos": np.array([self.steps, self.length], np.float32),
            "environment_state": np.array([self.length], np.float32),
        }
        if self.config.cameras:
            observation["pixels"] = {name: self.render() for name in self.config.cameras}
        return observation

    def render(self):
        self.pictures += 1
        return np.full((8, 16, 3), self.steps, np.uint8)
