"""The 50 manipulation tasks of Meta-World (arXiv 1910.10897) and their scripted experts."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from anyorder.envs.base import EnvConfig, Expert, Observation, observation_space, require_simulator
from anyorder.errors import ConfigError, did_you_mean

_SENTENCES = {
    "assembly-v3": "Pick up the nut and place it onto the peg.",
    "basketball-v3": "Throw the basketball through the hoop.",
    "bin-picking-v3": "Move the object from one bin to the other.",
    "box-close-v3": "Put the lid on the box.",
    "button-press-topdown-v3": "Press the button from above.",
    "button-press-topdown-wall-v3": "Reach over the wall and press the button from above.",
    "button-press-v3": "Press the button.",
    "button-press-wall-v3": "Reach around the wall and press the button.",
    "coffee-button-v3": "Press the button of the coffee machine.",
    "coffee-pull-v3": "Pull the mug away from the coffee machine.",
    "coffee-push-v3": "Push the mug under the coffee machine.",
    "dial-turn-v3": "Turn the dial.",
    "disassemble-v3": "Lift the nut off the peg.",
    "door-close-v3": "Close the door.",
    "door-lock-v3": "Lock the door.",
    "door-open-v3": "Open the door.",
    "door-unlock-v3": "Unlock the door.",
    "drawer-close-v3": "Close the drawer.",
    "drawer-open-v3": "Open the drawer.",
    "faucet-close-v3": "Close the faucet.",
    "faucet-open-v3": "Open the faucet.",
    "hammer-v3": "Hammer the nail into the wall.",
    "hand-insert-v3": "Put the hand with the object into the hole.",
    "handle-press-side-v3": "Press the handle down from the side.",
    "handle-press-v3": "Press the handle down.",
    "handle-pull-side-v3": "Pull the handle up from the side.",
    "handle-pull-v3": "Pull the handle up.",
    "lever-pull-v3": "Pull the lever up.",
    "peg-insert-side-v3": "Insert the peg into the hole from the side.",
    "peg-unplug-side-v3": "Pull the peg out of the hole.",
    "pick-out-of-hole-v3": "Take the object out of the hole.",
    "pick-place-v3": "Pick up the object and bring it to the goal.",
    "pick-place-wall-v3": "Pick up the object and bring it over the wall to the goal.",
    "plate-slide-back-side-v3": "Slide the plate out of the goal sideways.",
    "plate-slide-back-v3": "Slide the plate out of the goal.",
    "plate-slide-side-v3": "Slide the plate sideways into the goal.",
    "plate-slide-v3": "Slide the plate into the goal.",
    "push-back-v3": "Pull the object back to the goal.",
    "push-v3": "Push the object to the goal.",
    "push-wall-v3": "Push the object around the wall to the goal.",
    "reach-v3": "Reach the goal.",
    "reach-wall-v3": "Reach the goal behind the wall.",
    "shelf-place-v3": "Pick up the object and place it on the shelf.",
    "soccer-v3": "Push the ball into the soccer goal.",
    "stick-pull-v3": "Grasp the stick and pull the box with it.",
    "stick-push-v3": "Grasp the stick and push the box with it.",
    "sweep-into-v3": "Sweep the object into the hole.",
    "sweep-v3": "Sweep the object off the table.",
    "window-close-v3": "Close the window.",
    "window-open-v3": "Open the window.",
}
_CAMERAS = ("topview", "corner", "corner2", "corner3", "behindGripper", "gripperPOV")
_UPSIDE_DOWN = ("corner2",)
_STATE_SIZE = 4
_FPS = 80
_RENDER_SIZE = (480, 360)
BENCHMARK_STEPS = 500

Array = npt.NDArray[Any]


@dataclass
class MetaworldConfig(EnvConfig, choice="metaworld"):
    """Settings of the Meta-World tasks.

    Attributes:
        task: one of the 50, such as ``pick-place-v3``.
        cameras: any of the model's cameras (``corner2`` is the usual one); empty leaves ``pixels`` out.
        image_width: pixels.
        image_height: pixels.
        max_episode_steps: steps of 1/80 s before truncation; the benchmark's own are 500, and no more work.
        expert_noise: standard deviation of white noise on the expert's actions, which lie in [-1, 1].
    """

    task: str = "pick-place-v3"
    cameras: list[str] = field(default_factory=list)
    image_width: int = 96
    image_height: int = 96
    max_episode_steps: int = BENCHMARK_STEPS
    expert_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.task not in _SENTENCES:
            allowed = "a Meta-World v3 task such as pick-place-v3" + did_you_mean(self.task, _SENTENCES)
            raise ConfigError("env.task", self.task, allowed)
        if any(camera not in _CAMERAS for camera in self.cameras):
            raise ConfigError("env.cameras", list(self.cameras), f"any of {', '.join(_CAMERAS)}")
        if not 1 <= self.max_episode_steps <= BENCHMARK_STEPS:
            allowed = f"an integer in 1 ... {BENCHMARK_STEPS}"
            raise ConfigError("env.max_episode_steps", self.max_episode_steps, allowed)
        if not 0 <= self.expert_noise <= 1:
            raise ConfigError("env.expert_noise", self.expert_noise, "a number from 0 to 1")

    @classmethod
    def presets(cls) -> dict[str, dict[str, Any]]:
        """Offer each task by name."""
        return {f"{cls.choice}_{task}": {"task": task} for task in _SENTENCES}

    @classmethod
    def in_short(cls) -> str:
        """Stand for all tasks in one line."""
        names = sorted(cls.presets())
        return f"{names[0]} ... {names[-1]}: the {len(names)} tasks of Meta-World"

    def build(self) -> gym.Env:
        """Make the environment.

        Raises:
            EnvError: Meta-World is not installed.
        """
        require_simulator("metaworld", "metaworld")
        return MetaworldEnv(self)

    def expert(self) -> Expert:
        """Make the expert that Meta-World ships for the task."""
        require_simulator("metaworld", "metaworld")
        return MetaworldExpert(self.task, self.expert_noise)


class MetaworldEnv(gym.Env[Observation, Array]):
    """One Meta-World task; action = hand displacement (3, in cm) and gripper force, (4,) float32 in [-1, 1].

    ``agent_pos`` (4,) is the hand's place in m and the gripper's opening (0 ... 1); ``environment_state``
    (35,) is the rest of Meta-World's observation: objects, the previous step's values, goal. Object and goal
    places follow from the seed of ``reset``. The reward is Meta-World's own, at most 10; the first step with
    success ends the episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": _FPS}  # noqa: RUF012 (Gymnasium's own interface)
    render_mode = "rgb_array"
    robot_type = "sawyer"

    def __init__(self, config: MetaworldConfig) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        from anyorder.envs.rendering import Renderers

        self.config = config
        self.task = config.task
        self.task_description = _SENTENCES[config.task]
        self.max_episode_steps = config.max_episode_steps
        self.state_names = ["hand.x", "hand.y", "hand.z", "gripper.opening"]
        self.action_names = ["hand.dx", "hand.dy", "hand.dz", "gripper.force"]
        self.environment_names = _environment_names()

        self._sim = ALL_V3_ENVIRONMENTS[config.task]()
        # What the benchmark's task objects would set: the goal visible, places drawn from the own seed.
        self._sim._partially_observable = False
        self._sim.__dict__.pop("sawyer_observation_space", None)  # cached, would clip the goal to 0
        self._sim._freeze_rand_vec = False
        self._sim.seeded_rand_vec = True
        self._sim._set_task_called = True
        self._sim.model.vis.quality.offsamples = 0
        self._renderers = Renderers()

        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = observation_space(
            _STATE_SIZE, len(self.environment_names), config.cameras, config.image_height, config.image_width
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode that ``seed`` determines fully."""
        super().reset(seed=seed)
        self._sim.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
        observation, _ = self._sim.reset()
        self._steps = 0
        return self._observe(observation), {"is_success": False}

    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply ``action``, clipped to [-1, 1], for 1/80 s."""
        observation, reward, _, _, details = self._sim.step(np.clip(action, -1.0, 1.0))
        self._steps += 1
        success = bool(details["success"] > 0)
        truncated = self._steps >= self.max_episode_steps and not success
        return self._observe(observation), float(reward), success, truncated, {"is_success": success}

    def _observe(self, values: Array) -> Observation:
        flat = values.astype(np.float32)
        observation: Observation = {"agent_pos": flat[:_STATE_SIZE], "environment_state": flat[_STATE_SIZE:]}
        if self.config.cameras:
            size = self.config.image_width, self.config.image_height
            observation["pixels"] = {camera: self._picture(camera, size) for camera in self.config.cameras}
        return observation

    def _picture(self, camera: str, size: tuple[int, int]) -> Array:
        picture = self._renderers.render(self._sim.model, self._sim.data, camera, size)
        return picture[::-1, ::-1].copy() if camera in _UPSIDE_DOWN else picture

    def render(self) -> Array:
        """Return a (360, 480, 3) uint8 picture."""
        return self._picture("corner2", _RENDER_SIZE)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        self._renderers.close()


class MetaworldExpert:
    """Meta-World's scripted policy, which reacts to the observation, with optional white noise."""

    def __init__(self, task: str, noise: float = 0.0) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._make = ENV_POLICY_MAP[task]
        self._noise = noise

    def reset(self, env: gym.Env, seed: int) -> None:
        """Start anew; ``seed`` drives the noise."""
        self._policy = self._make()
        self._rng = np.random.default_rng(seed)

    def act(self, env: gym.Env, observation: Observation) -> Array:
        """Return the action (4,) float32."""
        flat = np.concatenate([observation["agent_pos"], observation["environment_state"]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about gains so high that actions get clipped
            action = self._policy.get_action(flat.astype(np.float64))
        noisy = np.clip(action, -1.0, 1.0) + self._noise * self._rng.normal(size=4)
        return np.clip(noisy, -1.0, 1.0).astype(np.float32)


def _environment_names() -> list[str]:
    objects = [f"object{i}.{axis}" for i in (1, 2) for axis in ("x", "y", "z", "q0", "q1", "q2", "q3")]
    before = ["hand.x", "hand.y", "hand.z", "gripper.opening", *objects]
    return [*objects, *(f"previous.{name}" for name in before), "goal.x", "goal.y", "goal.z"]
