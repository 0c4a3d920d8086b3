"""Operators: from what a model means to a plan for a bigger one. A paper is one file here, and a row below."""

from growkernels.operators.compile import DEPTH_OPERATORS, WIDTH_OPERATORS, make_plan
from growkernels.operators.layers import parse_layers
from growkernels.options import GrowthOptions

__all__ = ["DEPTH_OPERATORS", "WIDTH_OPERATORS", "GrowthOptions", "make_plan", "parse_layers"]
