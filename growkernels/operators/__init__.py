"""Operators: from what a model means to a plan for a bigger one. A paper is one file here, and one name in `registry`."""

from growkernels.operators.base import DepthOperator, Layer, WidthOperator
from growkernels.operators.compile import make_plan
from growkernels.operators.layers import parse_layers
from growkernels.operators.registry import DEPTH_OPERATORS, WIDTH_OPERATORS, register_operator
from growkernels.options import GrowthOptions
from growkernels.plans import Claim

__all__ = [
    "DEPTH_OPERATORS",
    "WIDTH_OPERATORS",
    "Claim",
    "DepthOperator",
    "GrowthOptions",
    "Layer",
    "WidthOperator",
    "make_plan",
    "parse_layers",
    "register_operator",
]
