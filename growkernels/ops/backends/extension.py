"""The compiled extension `growkernels._C`: whether it loads, and what to do where it does not."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

#: Builds the kernels for what is installed by then.
BUILD = "run `pip install --no-deps --no-cache-dir --force-reinstall .` in the source tree"
REMEDY = f"install a C++ compiler, then {BUILD}"
CUDA_REMEDY = f"{BUILD} where nvcc is, or install triton"


def _load() -> tuple[ModuleType | None, str]:
    import_module("torch")  # the extension finds torch's libraries in the process
    try:
        return import_module("growkernels._C"), ""
    except ModuleNotFoundError:
        return None, "the compiled extension was not built"
    except (ImportError, OSError) as error:
        return None, f"the compiled extension did not load ({error})"


#: The extension, None where there is none, and why there is none.
EXTENSION, MISSING = _load()
