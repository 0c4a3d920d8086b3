"""Layouts: what every axis of every parameter of a model means, found from its config and its file."""

from growkernels.layouts.base import Axis, ModelLayout, Part, Place, Symbol, TensorLayout
from growkernels.layouts.declare import declare_layout
from growkernels.layouts.discover import discover
from growkernels.layouts.families import register_family
from growkernels.layouts.family import Family
from growkernels.layouts.grow import check_shapes, grow_config

__all__ = [
    "Axis",
    "Family",
    "ModelLayout",
    "Part",
    "Place",
    "Symbol",
    "TensorLayout",
    "check_shapes",
    "declare_layout",
    "discover",
    "grow_config",
    "register_family",
]
