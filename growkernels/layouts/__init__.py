"""Layouts: what every axis of every parameter of a model means, found from its config and its file."""

from growkernels.layouts.base import Axis, ModelLayout, Part, Symbol, TensorLayout
from growkernels.layouts.discover import discover
from growkernels.layouts.grow import grow_config

__all__ = ["Axis", "ModelLayout", "Part", "Symbol", "TensorLayout", "discover", "grow_config"]
