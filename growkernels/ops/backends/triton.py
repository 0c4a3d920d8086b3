"""The backend of Triton kernels, for CUDA tensors (for CPU tensors under Triton's interpreter)."""

from __future__ import annotations

import os
from importlib.util import find_spec

from growkernels.ops.backends.registry import Backend
from growkernels.ops.expand.cost import GPU_RATES
from growkernels.ops.expand.triton import inner_products_, mix_, products_
from growkernels.ops.noise.triton import mean_square, normal_
from growkernels.ops.replicate.triton import replicate_
from growkernels.ops.tile.triton import tile_, tile_rules_

_FUNCTIONS = (tile_, tile_rules_, replicate_, mean_square, normal_, mix_, inner_products_, products_)

TRITON = Backend(
    "triton",
    # Under Triton's interpreter its kernels run on CPU tensors.
    devices=("cuda", "cpu") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",),
    why_not=lambda: "" if find_spec("triton") else "triton is not installed; install it (`pip install triton`)",
    implementations=lambda: {function.__name__: function for function in _FUNCTIONS},
    rates=GPU_RATES,
    default_for=("cuda",),
)
