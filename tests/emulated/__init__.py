"""The emulated GPU: the CUDA kernels run by the CPU, every thread of a block a fiber. Its backend is called `emulated`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from growkernels.ops.backends import GPU_RATES, Backend, register_backend
from growkernels.ops.expand.products import products_

# Last: a library that is found elsewhere, such as the instrumented one of `make sanitize`, comes first.
sys.path.append(str(Path(__file__).parent))
try:
    import growkernels_emulated
except ImportError as error:
    MISSING = f"the emulated GPU is not built ({error}); run `python setup.py build_emulated`"
else:
    MISSING = ""


def traffic() -> dict[str, Any]:
    """What the kernels of this thread did since the last call: `launches` by name, and bytes `read` and `written`."""
    return growkernels_emulated.traffic()


register_backend(
    Backend(
        "emulated",
        devices=("cpu",),
        why_not=lambda: MISSING,
        implementations=lambda: {"products_": products_},
        rates=GPU_RATES,
    )
)
