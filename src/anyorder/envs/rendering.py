"""Off-screen pictures, set up for speed on machines without a graphics card."""

import importlib
import os
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from anyorder.errors import EnvError

if TYPE_CHECKING:  # importing the environments loads no simulator
    import mujoco


class OffscreenRenderer:
    """Renders one image size, without shadows and reflections: they cost ten times the rest of a frame.

    Raises:
        EnvError: no OpenGL library works; the message names the packages to install.
    """

    def __init__(self, model: "mujoco.MjModel", width: int, height: int) -> None:
        import mujoco

        try:
            self._window = _context_class()(width, height)
            self._window.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except Exception as error:  # each OpenGL library fails with exceptions of its own
            raise EnvError(
                "rendering needs an off-screen OpenGL library and none works here, install one: "
                "apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 with MUJOCO_GL=osmesa"
                f" ({type(error).__name__}: {error})"
            ) from error
        # Runs at exit, too, while OpenGL is still there.
        self._free = weakref.finalize(self, _free, self._window, self._context)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._model = model
        self._area = mujoco.MjrRect(0, 0, width, height)
        self._options = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 10)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def render(self, data: "mujoco.MjData", camera: str) -> np.ndarray:
        """Return what ``camera`` sees, (height, width, 3) uint8."""
        import mujoco

        self._camera.fixedcamid = self._model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._options, None, self._camera, everything, self._scene)
        self._window.make_current()
        mujoco.mjr_render(self._area, self._scene, self._context)
        upside_down = np.empty((self._area.height, self._area.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(upside_down, None, self._area, self._context)
        return upside_down[::-1].copy()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._free()


class Renderers:
    """Pictures of one model in any size; each size gets an OpenGL context when first asked for."""

    def __init__(self) -> None:
        self._of_size: dict[tuple[int, int], OffscreenRenderer] = {}

    def render(self, model: "mujoco.MjModel", data: "mujoco.MjData", camera: str, size: tuple[int, int]) -> np.ndarray:
        """Return what ``camera`` sees, (height, width, 3) uint8; ``size`` is width and height."""
        if size not in self._of_size:
            self._of_size[size] = OffscreenRenderer(model, *size)
        return self._of_size[size].render(data, camera)

    def close(self) -> None:
        """Free the OpenGL contexts."""
        for renderer in self._of_size.values():
            renderer.close()
        self._of_size = {}


def _context_class() -> Any:
    """Return the context of the library in MUJOCO_GL, even where MuJoCo was imported before it was set."""
    import mujoco

    library = os.environ.get("MUJOCO_GL", "").lower()
    if library in ("egl", "osmesa"):
        return importlib.import_module(f"mujoco.{library}").GLContext
    return mujoco.GLContext


def _free(window: Any, context: "mujoco.MjrContext") -> None:
    window.make_current()
    context.free()
    window.free()
