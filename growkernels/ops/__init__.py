"""Fused growth ops on tensors: compiled kernels, and the eager reference that defines them."""

from growkernels.ops.backends.registry import register_installed
from growkernels.ops.expand.expand import expand, expand_, expand_many, expand_many_
from growkernels.ops.expand.packing import Expansion
from growkernels.ops.noise.noise import mean_square, normal_
from growkernels.ops.replicate.replicate import replicate, replicate_
from growkernels.ops.tile.tile import tile, tile_, tile_rules_
from growkernels.rules.index import IndexVector, Segment
from growkernels.rules.key import noise_key
from growkernels.rules.tile import Fill, Noise, Tile

__all__ = [
    "Expansion",
    "Fill",
    "IndexVector",
    "Noise",
    "Segment",
    "Tile",
    "expand",
    "expand_",
    "expand_many",
    "expand_many_",
    "mean_square",
    "noise_key",
    "normal_",
    "replicate",
    "replicate_",
    "tile",
    "tile_",
    "tile_rules_",
]

# Last, so that other packages find everything here when their backends are imported.
register_installed()
