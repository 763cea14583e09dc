"""Keeping LeRobot's loggers silent, or one of its functions another one, while a block runs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

VIDEO_BACKEND = "lerobot.utils.import_utils"
"""This logger of LeRobot warns at length about a video decoder which nothing here needs."""


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Hide what the logger ``name``, and those below it, say below the level of an error."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def replaced(module: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let ``name`` in a module be another function."""
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)
