"""Studies through Hydra's launchers: joblib on one machine, submitit on a cluster."""

from itertools import chain
from pathlib import Path
from typing import Any

from anyorder.errors import ConfigError, system_failure
from anyorder.studies.execution import Execution

PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
"""These packages bring these launchers; ``basic``, one job after the other, is Hydra's own."""


def launch(execution: Execution) -> None:
    """Do what a study has left in jobs of about the same cost; returns when all of them have ended.

    Every job must see the study's folder.

    Raises:
        ConfigError: no such launcher, or it does not take the options.
        OSError: the disk takes nothing more.
    """
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    launcher, out = execution.launcher, execution.folder.resolve()
    overrides = [
        f"hydra/launcher={launcher}",
        *(f"hydra.launcher.{name}={value}" for name, value in execution.launcher_options.items()),
        f"hydra.sweep.dir={out / 'launcher'}",
        "hydra.output_subdir=null",
        f"out={out}",
        f"jobs={execution.jobs}",
        f"retries={execution.retries}",
        f"job={','.join(map(str, range(execution.jobs)))}",
    ]
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("anyorder", create_config_search_path("pkg://anyorder.configs"))
    try:
        ended = hydra.multirun("study_job", run_job, overrides, with_log_configuration=False)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())[:160]
        needed = f" (pip install {PACKAGES[launcher]})" if launcher in PACKAGES else ""
        raise ConfigError("launcher", launcher, f"local, basic, {', '.join(PACKAGES)}{needed}: {reason}") from error
    finally:
        GlobalHydra.instance().clear()
    for job in chain.from_iterable(ended):
        if job.return_value is not None:
            raise OSError(job.return_value)


def run_job(config: Any) -> str | None:
    """Do one job's share of a study; returns what the system refused, as Hydra adds lines of its own to an error."""
    try:
        do_share(config)
    except Exception as error:
        refused = system_failure(error)
        if refused is None:
            raise
        return refused
    return None


def do_share(config: Any) -> None:
    """Do one job's share of a study: every ``jobs``-th of what is left, the costliest first."""
    from anyorder.files import write_json
    from anyorder.settings import completed, from_plain
    from anyorder.studies.collect import read_study
    from anyorder.studies.config import StudyConfig
    from anyorder.studies.files import ERROR, is_open, run_folder
    from anyorder.studies.workers import Session, Task

    out = Path(config.out)
    study = read_study(out)
    members = sorted(study.members, key=lambda m: -m.estimated_s)
    mine = [m for m in members[config.job :: config.jobs] if is_open(out, m.id)]
    if not mine:
        return
    session = Session(from_plain(StudyConfig, completed(StudyConfig, study.config)), out)
    for member in mine:
        message: str | None = ""
        tries = 0
        while message is not None and tries <= config.retries:
            message = session.do(Task(member))
            tries += 1
        if message is not None:
            write_json(run_folder(out, member.id) / ERROR, {"error": message, "tries": tries})
