"""All ops as a library of torch: schemas, fake kernels and gradients. Backends register implementations of it.

In-place forms return nothing: an op that returns an alias of its input breaks torch.compile and DTensor. Integers that may
change from call to call are SymInt, so that a compiled graph serves all of them; `index` picks tensors. `key` is an unsigned
64-bit number carried in a signed one.
"""

from __future__ import annotations

import torch

from growkernels.ops.expand import register as expand
from growkernels.ops.noise import register as noise
from growkernels.ops.replicate import register as replicate
from growkernels.ops.tile import register as tile

_OPS = (tile, replicate, noise, expand)
SCHEMAS = tuple(schema for op in _OPS for schema in op.SCHEMAS)


def define(namespace: str) -> torch.library.Library:
    """A new library of torch with all ops, none of which is implemented yet."""
    library = torch.library.Library(namespace, "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    for op in _OPS:
        op.register(library)
    return library
