"""The off-screen OpenGL library that MuJoCo renders with, chosen before MuJoCo is imported."""

import ctypes
import os
import sys

_LIBRARIES = {"egl": "libEGL.so.1", "osmesa": "libOSMesa.so.8"}


def choose_gl_backend() -> None:
    """Set MUJOCO_GL to a library that exists, on Linux without a display.

    MuJoCo fails to import, even for state-only use, where MUJOCO_GL names a library that is not installed;
    such a setting becomes ``disable``, and only rendering fails.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if sys.platform != "linux" or (asked and asked not in _LIBRARIES) or (not asked and "DISPLAY" in os.environ):
        return
    for backend in [asked] if asked else _LIBRARIES:
        try:
            ctypes.CDLL(_LIBRARIES[backend])
        except OSError:
            continue
        os.environ["MUJOCO_GL"] = backend
        return
    os.environ["MUJOCO_GL"] = "disable"
