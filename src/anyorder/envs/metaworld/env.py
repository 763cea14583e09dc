"""The 50 manipulation tasks of Meta-World (arXiv 1910.10897) and their scripted experts."""

import warnings
from dataclasses import dataclass
from typing import Any, override

import gymnasium as gym
import numpy as np

from anyorder.envs.base import Expert, Observation, require_simulator
from anyorder.envs.simulator import Array, SimulatorConfig, SimulatorEnv, cameras_among
from anyorder.errors import ConfigError, did_you_mean
from anyorder.settings import setting

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
_UPSIDE_DOWN = ("corner2",)
_STATE_SIZE = 4
_FPS = 80
BENCHMARK_STEPS = 500


@dataclass
class MetaworldConfig(SimulatorConfig, choice="metaworld"):
    """Settings of the Meta-World tasks."""

    task: str = setting("pick-place-v3", "One of the 50 tasks.")
    cameras: list[str] = cameras_among("corner2", "topview", "corner", "corner3", "behindGripper", "gripperPOV")
    max_episode_steps: int = setting(
        BENCHMARK_STEPS,
        "Steps of 1/80 s before truncation; the benchmark's own are 500, and no more work.",
        least=1,
        most=BENCHMARK_STEPS,
    )
    expert_noise: float = setting(
        0.0, "Standard deviation of white noise on the expert's actions, which lie in [-1, 1].", least=0, most=1
    )
    tasks = _SENTENCES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in _SENTENCES:
            allowed = "a Meta-World v3 task such as pick-place-v3" + did_you_mean(self.task, _SENTENCES)
            raise ConfigError("task", self.task, allowed)

    @override
    @classmethod
    def in_short(cls) -> str:
        """Stand for all tasks in one line."""
        names = sorted(cls.presets())
        return f"{names[0]} ... {names[-1]}: the {len(names)} tasks of Meta-World"

    @override
    def build(self) -> gym.Env:
        require_simulator("metaworld", "metaworld")
        return MetaworldEnv(self)

    @override
    def expert(self) -> Expert:
        require_simulator("metaworld", "metaworld")
        return MetaworldExpert(self.task, self.expert_noise)


class MetaworldEnv(SimulatorEnv):
    """One Meta-World task; action = hand displacement (3, in cm) and gripper force, (4,) float32 in [-1, 1].

    ``agent_pos`` (4,) is the hand's place in m and the gripper's opening (0 ... 1); ``environment_state``
    (35,) is the rest of Meta-World's observation: objects, the previous step's values, goal. Object and goal
    places follow from the seed of ``reset``. The reward is Meta-World's own, at most 10; the first step with
    success ends the episode.
    """

    fps = _FPS
    robot_type = "sawyer"
    view = "corner2"

    def __init__(self, config: MetaworldConfig) -> None:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self._sim = ALL_V3_ENVIRONMENTS[config.task]()
        # What the benchmark's task objects would set: the goal visible, places drawn from the own seed.
        self._sim._partially_observable = False
        self._sim.__dict__.pop("sawyer_observation_space", None)  # cached, would clip the goal to 0
        self._sim._freeze_rand_vec = False
        self._sim.seeded_rand_vec = True
        self._sim._set_task_called = True
        self._sim.model.vis.quality.offsamples = 0
        super().__init__(
            config,
            description=_SENTENCES[config.task],
            max_episode_steps=config.max_episode_steps,
            state_names=["hand.x", "hand.y", "hand.z", "gripper.opening"],
            environment_names=_environment_names(),
            action_names=["hand.dx", "hand.dy", "hand.dz", "gripper.force"],
            action_space=gym.spaces.Box(-1.0, 1.0, (4,), np.float32),
        )

    @override
    def _begin(self, seed: int | None) -> None:
        self._sim.seed(self._drawn(seed))
        self._values, _ = self._sim.reset()

    @override
    def step(self, action: Array) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Apply ``action``, clipped to [-1, 1], for 1/80 s."""
        self._values, reward, _, _, details = self._sim.step(np.clip(action, -1.0, 1.0))
        return self._outcome(reward, bool(details["success"] > 0))

    @override
    def _state(self) -> tuple[Any, Any]:
        return self._values[:_STATE_SIZE], self._values[_STATE_SIZE:]

    @override
    def _picture(self, camera: str, size: tuple[int, int]) -> Array:
        picture = self._renderers.render(self._sim.model, self._sim.data, camera, size)
        return picture[::-1, ::-1].copy() if camera in _UPSIDE_DOWN else picture


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
