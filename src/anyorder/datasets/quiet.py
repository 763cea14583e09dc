"""Keeping LeRobot's loggers silent while a block runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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
