"""Every environment of this package as a LeRobot environment type, ``--env.type=anyorder_<name>``."""

import dataclasses
import json
import multiprocessing
import typing
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig as LeRobotEnvConfig
from lerobot.envs.utils import NEW_ROLLOUT_OPTION
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from anyorder.envs import EnvConfig
from anyorder.envs.lerobot_names import observation_features
from anyorder.errors import ConfigError
from anyorder.plugin.checks import check_env, policy_config_of_caller
from anyorder.plugin.episodes import build, without_main
from anyorder.processes import end_with_parent

PREFIX = "anyorder_"
FEATURE_TYPES = {OBS_STATE: FeatureType.STATE, OBS_ENV_STATE: FeatureType.ENV}
"""LeRobot's types of the features that are no pictures."""


@dataclasses.dataclass
class AnyOrderEnv(LeRobotEnvConfig):
    """Base of the LeRobot environment types; each has the fields of one of this package's ``EnvConfig``.

    Attributes:
        fps: control rate in Hz. It is the simulator's own: 0 takes it, another value is refused.
    """

    fps: int = 0
    family: ClassVar[type[EnvConfig]]

    def __post_init__(self) -> None:
        settings = self.settings()
        found = describe(settings.choice, json.dumps(settings.options(), sort_keys=True))
        if self.fps not in (0, found.fps):
            raise ConfigError("fps", self.fps, f"{found.fps}, the simulator's rate")
        self.fps = found.fps
        self.features = dict(found.features)
        self.features_map = dict(found.features_map)

    def settings(self) -> EnvConfig:
        """Return the environment's settings as this package knows them."""
        return self.family(**self.gym_kwargs)

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Return the settings by name, which LeRobot would pass to ``gym.make``."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self.family)}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, VectorEnv[Any, Any, Any]]]:
        """Make ``n_envs`` environments that step together, in processes of their own if asked and more than one.

        Nothing is rendered unless the settings name cameras or LeRobot asks for a video.
        """
        make = partial(build, self.settings(), NEW_ROLLOUT_OPTION)
        envs: VectorEnv[Any, Any, Any]
        if use_async_envs and n_envs > 1:
            with without_main():
                # Not "fork": a forked process would share the threads' locks and the OpenGL context.
                context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
                envs = AsyncVectorEnv(
                    [partial(in_a_process, make)] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP, context=context
                )
        else:
            envs = SyncVectorEnv([make] * n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        return {self.type: {0: envs}}

    def get_env_processors(self) -> tuple[Any, Any]:
        """Return LeRobot's pipelines that change nothing; check that the policy at hand fits this environment.

        Raises:
            EnvError: see ``check_env``.
        """
        policy_config = policy_config_of_caller()
        if policy_config is not None:
            check_env(policy_config, self)
        return super().get_env_processors()


def in_a_process(make: Callable[[], gym.Env]) -> gym.Env:
    """Make an environment in a process of its own, which ends with the one that started it."""
    end_with_parent()
    return make()


@dataclasses.dataclass(frozen=True)
class Description:
    """What LeRobot wants to know of an environment before it is made."""

    fps: int
    features: dict[str, PolicyFeature]
    features_map: dict[str, str]


@cache
def describe(choice: str, options: str) -> Description:
    """Build the environment ``choice`` with ``options`` (JSON) once, and read its rate and features."""
    env = EnvConfig.named(choice, **json.loads(options)).build()
    try:
        action: Any = env.action_space
        features = {ACTION: PolicyFeature(FeatureType.ACTION, action.shape)}
        names = {ACTION: ACTION}
        for name, feature in observation_features(env).items():
            features[feature.raw] = PolicyFeature(FEATURE_TYPES.get(name, FeatureType.VISUAL), feature.shape)
            # A camera keeps its LeRobot name: only so `--eval.recording=true` finds the pictures, too.
            names[feature.raw] = name
        return Description(int(env.metadata["render_fps"]), features, names)
    finally:
        env.close()


def register_env_types() -> None:
    """Register a LeRobot type for every member of the ``EnvConfig`` family that has none yet."""
    known = LeRobotEnvConfig.get_known_choices()
    for choice, family in EnvConfig.choices.items():
        if PREFIX + choice not in known:
            LeRobotEnvConfig.register_subclass(PREFIX + choice)(env_type(choice, family))


def env_type(choice: str, family: type[EnvConfig]) -> type[AnyOrderEnv]:
    """Make the LeRobot type of one of this package's environments, a field for each of its settings."""
    hints = typing.get_type_hints(family)
    fields: list[Any] = []
    for field in dataclasses.fields(family):
        copy = dataclasses.field(default=field.default, default_factory=field.default_factory)
        fields.append((field.name, hints[field.name], copy))
    name = f"AnyOrder{choice.title().replace('_', '')}Env"
    namespace = {"family": family, "__doc__": family.__doc__}
    made = dataclasses.make_dataclass(name, fields, bases=(AnyOrderEnv,), namespace=namespace, module=__name__)
    globals()[name] = made  # pickle looks it up by name
    return made


register_env_types()
