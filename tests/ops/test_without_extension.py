"""The package without its extension, with a backend forced by the environment, and imported lightly."""

from __future__ import annotations

import os
import subprocess
import sys

from growkernels.ops.backends.extension import EXTENSION, MISSING
from tests.ops.tools import data

W = data((4, 6))


def _python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "always", "-c", code]
    # An instrumented extension needs its runtime loaded first, here too.
    sanitizer = {name: os.environ[name] for name in ("LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}
    clean = {"PATH": "", **sanitizer, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=clean, check=False)


WITHOUT_EXTENSION = """
import sys
sys.modules["growkernels._C"] = None
import torch
from growkernels import ops
w = torch.arange(1.0, 13.0).view(3, 4)
assert ops.tile(w, 2, 2, noise_std=0.1).equal(ops.tile(w, 2, 2, noise_std=0.1, backend="eager"))
print(torch.library.opcheck(torch.ops.growkernels.tile.default, (w, 2, 2, False, 0.1, None, 3, torch.float32)))
ops.tile(w, 2, 2, backend="cpu")
"""


def test_without_the_extension_the_reference_takes_its_place_and_says_so_once() -> None:
    done = _python(WITHOUT_EXTENSION)
    assert done.stderr.count("runs on its slow eager reference") == 1
    assert "SUCCESS" in done.stdout and "FAIL" not in done.stdout
    assert (
        "GrowthError: backend 'cpu' was asked for, but the compiled extension was not built; install a C++ compiler, then run"
        in done.stderr
    )


def test_the_environment_forces_a_backend() -> None:
    code = "import torch; from growkernels import ops; ops.tile(torch.ones(2, 2), 2, 2); print('ran')"
    assert _python(code, GROWKERNELS_BACKEND="eager").stdout == "ran\n"
    refused = _python(code, GROWKERNELS_BACKEND="metal")
    assert "unknown backend 'metal' (argument backend= or GROWKERNELS_BACKEND)" in refused.stderr and not refused.stdout


def test_import_is_light() -> None:
    code = "import sys, growkernels; print([m for m in ('torch', 'numpy', 'triton') if m in sys.modules])"
    assert _python(code).stdout == "[]\n"
    code = "import sys, growkernels; growkernels.ops; print('triton' in sys.modules)"
    assert _python(code).stdout == "False\n"


def test_backend_is_compiled_here() -> None:
    assert EXTENSION is not None, MISSING
