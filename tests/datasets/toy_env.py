"""A toy environment for tests: a point walks to a goal, in as many steps as its seed says."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np

from anyorder.envs.base import EnvConfig

SIZE = 32  # pixels


@dataclass
class ToyConfig(EnvConfig, choice="toy"):
    task: str = "walk"
    shortest: int = 12
    longest: int = 40
    fail_every: int = 0  # the expert gives up on seeds divisible by this (0: never)
    noise: float = 0.1
    camera: bool = False

    def build(self):
        return ToyEnv(self)

    def expert(self):
        return ToyExpert(self)


class ToyEnv(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    max_episode_steps = 50
    task_description = "Walk to the goal."
    state_names = ["x", "y", "clock"]  # noqa: RUF012
    environment_names = ["goal.x", "goal.y"]  # noqa: RUF012
    action_names = ["dx", "dy"]  # noqa: RUF012
    robot_type = "point"
    render_mode = "rgb_array"

    def __init__(self, config):
        self.config = config
        self.task = config.task
        box = lambda n: gym.spaces.Box(-np.inf, np.inf, (n,), np.float32)  # noqa: E731
        spaces = {"agent_pos": box(3), "environment_state": box(2)}
        if config.camera:
            image = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
            spaces["pixels"] = gym.spaces.Dict({"top": image})
        self.observation_space = gym.spaces.Dict(spaces)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length = int(self.np_random.integers(self.config.shortest, self.config.longest + 1))
        self.goal = self.np_random.uniform(-1, 1, 2)
        self.position = self.np_random.uniform(-1, 1, 2)
        self.steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action):
        self.position = self.position + 0.1 * np.asarray(action, dtype=np.float64)
        self.steps += 1
        near = bool(np.linalg.norm(self.position - self.goal) < 0.3)
        done = self.steps >= self.length
        return self.observe(), float(near), done, False, {"is_success": done and near}

    def observe(self):
        clock = self.steps / 50
        observation = {
            "agent_pos": np.array([*self.position, clock], dtype=np.float32),
            "environment_state": self.goal.astype(np.float32),
        }
        if self.config.camera:
            observation["pixels"] = {"top": self.render()}
        return observation

    def render(self):
        image = np.full((SIZE, SIZE, 3), 40, dtype=np.uint8)
        row, column = np.clip((self.position + 1.5) / 3 * SIZE, 2, SIZE - 3).astype(int)
        image[row - 2 : row + 3, column - 2 : column + 3] = (200, 80, 10)
        return image


class ToyExpert:
    def __init__(self, config):
        self.config = config

    def reset(self, env, seed):
        self.random = np.random.default_rng(seed)
        self.gives_up = self.config.fail_every > 0 and seed % self.config.fail_every == 0

    def act(self, env, observation):
        if self.gives_up:
            return np.array([1.0, 1.0])
        error = observation["environment_state"] - observation["agent_pos"][:2]
        return np.clip(5 * error + self.config.noise * self.random.normal(size=2), -1, 1)
