"""Off-screen pictures, set up for speed on machines without a graphics card."""

import weakref

import mujoco
import numpy as np

from anyorder.errors import EnvError


class OffscreenRenderer:
    """Renders one image size, without shadows and reflections: they cost ten times the rest of a frame."""

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # each GL library fails with exceptions of its own
            raise EnvError(
                "rendering needs an off-screen OpenGL library and none works here, install one: "
                "apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 with MUJOCO_GL=osmesa"
                f" ({type(error).__name__}: {error})"
            ) from error
        self._free = weakref.finalize(self, self._renderer.close)  # also at exit, while OpenGL is still there
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def render(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Return what ``camera`` sees, (height, width, 3) uint8."""
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._free()
