"""The tasks of the SO-101, one file each; only the file of a task that is built is loaded, and MuJoCo with it."""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyorder.envs.so101.task import Task

TASKS = tuple(module.name for module in pkgutil.iter_modules(__path__))
"""The names of the tasks."""


def camel(name: str) -> str:
    """Return the name of a task's class, which is part of its Gymnasium id, too.

    >>> camel("pick_place")
    'PickPlace'
    """
    return "".join(word.capitalize() for word in name.split("_"))


def make_task(name: str) -> "Task":
    """Return the task called ``name``, one of ``TASKS``."""
    module = importlib.import_module(f"{__name__}.{name}")
    task: Task = getattr(module, camel(name))()
    return task
