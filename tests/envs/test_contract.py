"""One contract for every environment: a new one is covered by being there."""

import numpy as np
import pytest

from anyorder.envs import EnvConfig
from anyorder.envs.base import Expert
from anyorder.errors import EnvError
from anyorder.testing.environments import check_environment

PRESETS = 5
"""Of a family with many tasks, the first few are checked."""
CONFIGS = {
    name: kind(**options)
    for kind in EnvConfig.choices.values()
    if kind.__module__.startswith("anyorder.")
    for name, options in list(kind.presets().items())[:PRESETS]
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore")
def test_contract(name):
    try:
        done = check_environment(CONFIGS[name])
    except EnvError as error:
        if "pip install" not in str(error):
            raise
        pytest.skip(str(error))
    assert {"names_fit_spaces", "a_seed_determines_an_episode", "the_expert_acts"} <= set(done)


@pytest.mark.parametrize("name", CONFIGS)
def test_an_episode_is_cut_off_where_the_settings_say(name):
    config = CONFIGS[name]
    if not hasattr(config, "max_episode_steps"):
        pytest.skip("has no such setting")
    options = {**config.options(), "max_episode_steps": 2}
    try:
        env = EnvConfig.named(config.choice, **options).build()
    except EnvError as error:
        pytest.skip(str(error))
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(np.clip(still, env.action_space.low, env.action_space.high))[2:4] for _ in range(2)]
    assert ends == [(False, False), (False, True)]
    env.close()


def test_a_broken_environment_is_caught():
    config = CONFIGS["so101_lift"]

    class Restless(type(config)):
        def expert(self) -> Expert:
            made = super().expert()
            made._noise_deg = np.random.default_rng().uniform(1, 5)
            return made

    with pytest.raises(AssertionError, match="the same seed gave different observations"):
        check_environment(Restless(task="lift"))
    wrong = config.build()
    wrong.unwrapped.state_names.pop()
    config = type("Given", (type(config),), {"build": lambda self: wrong})(task="lift")
    with pytest.raises(AssertionError, match=r"state_names: 5 names for values of shape \(6,\)"):
        check_environment(config)
