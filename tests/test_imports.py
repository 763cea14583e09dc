"""The core stands on torch: it can be used, and tested, without LeRobot or Hydra."""

import subprocess
import sys
from pathlib import Path

from anyorder import laws

CORE = ("factorization", "tokenizers", "networks", "testing")


def test_the_core_imports_neither_lerobot_nor_hydra():
    code = "import sys, " + ", ".join(f"anyorder.{part}" for part in CORE)
    code += "; print([m for m in ('lerobot', 'hydra', 'mujoco', 'gymnasium') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_laws_need_neither_torch_nor_lerobot():
    names = sorted(file.stem for file in Path(laws.__file__).parent.glob("*.py") if file.stem != "__init__")
    code = "import sys, " + ", ".join(f"anyorder.laws.{name}" for name in names)
    code += "; print([m for m in ('torch', 'lerobot', 'scipy', 'rich', 'hydra') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_tokenizers_draw_no_tables():
    code = "import sys, anyorder.tokenizers; print([m for m in ('rich', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_the_state_of_a_study_is_read_without_what_trains():
    code = "import sys; import anyorder.commands.study, anyorder.studies.collect"
    code += "; print([m for m in ('lerobot', 'diffusers', 'scipy', 'mujoco') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_offering_the_choices_loads_no_library_that_a_member_alone_needs():
    code = "import sys; from anyorder import composition; composition.register_groups()"
    code += "; print([m for m in ('lerobot', 'mujoco', 'scipy', 'transformers') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"
