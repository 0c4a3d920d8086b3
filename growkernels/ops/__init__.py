"""Fused growth ops on tensors: compiled kernels, and the eager reference that defines them."""

from growkernels.key import noise_key
from growkernels.ops.expand import expand, expand_, expand_many, expand_many_
from growkernels.ops.expand_layout import Expansion
from growkernels.ops.noise import mean_square, normal_
from growkernels.ops.replicate import replicate, replicate_
from growkernels.ops.spec import TileSpec
from growkernels.ops.tile import tile, tile_, tile_rules_

__all__ = [
    "Expansion",
    "TileSpec",
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
