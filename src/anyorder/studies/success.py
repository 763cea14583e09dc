"""Success in simulation of some runs of a study, to see whether likelihood ranks policies as success does."""

from pathlib import Path

from anyorder.datasets.write.origin import Origin
from anyorder.errors import ConfigError
from anyorder.files import write_json
from anyorder.rollouts.rollout import rollout
from anyorder.studies.config import StudyConfig, SuccessConfig
from anyorder.studies.data import StudyData
from anyorder.studies.files import RESULT, SUCCESS, WEIGHTS, is_open, read_file, run_folder
from anyorder.studies.grid import Member
from anyorder.studies.workers import Task
from anyorder.tensors import read_tensors


def chosen(members: list[Member], config: StudyConfig, out: Path) -> list[Member]:
    """Return the finished runs to roll out: evenly spread over the ranks of the test NLL of the kept weights."""
    column = f"test_{config.keep_weights}"
    results = {m.id: run_folder(out, m.id) / RESULT for m in members}
    done = [m for m in members if results[m.id].is_file()]
    ranked = sorted(done, key=lambda m: (read_file(results[m.id])[column], m.id))
    count = min(config.success.runs, len(ranked))
    return [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]


def open_rollouts(members: list[Member], config: StudyConfig, out: Path) -> list[Task]:
    """Return what is left to roll out of the runs that are trained."""
    return [Task(m, success=True) for m in chosen(members, config, out) if is_open(out, m.id, SUCCESS)]


def check_success(config: StudyConfig, data: StudyData) -> None:
    """Refuse rollouts of a dataset that does not say where it was recorded."""
    if config.success.runs and Origin.shared_env(data.train.roots) is None:
        allowed = "0, as the dataset does not say in which environment it was recorded"
        raise ConfigError("success.runs", config.success.runs, allowed)


def roll_out(member: Member, data: StudyData, config: SuccessConfig, folder: Path) -> None:
    """Roll a run's kept weights out in the environment of its dataset, and write what came out."""
    env = Origin.shared_env(data.train.roots)
    if env is None:
        raise ConfigError("success.runs", config.runs, "0 for this dataset")
    settings = member.settings
    policy = data.policy(settings.factorization, settings.network, settings.encoder, settings.head)
    policy.load_state_dict(read_tensors(folder / WEIGHTS)[0])
    policy.manual_seed(settings.seed)
    found = rollout(env, policy, episodes=config.episodes, seed=config.seed, batch_size=config.episodes)
    low, high = found.interval
    result = {"success": found.success_rate, "success_low": low, "success_high": high}
    write_json(folder / SUCCESS, {**result, "success_episodes": config.episodes, "seed": config.seed})
