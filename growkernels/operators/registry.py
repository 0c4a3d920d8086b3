"""The table of operators: ours, those that are registered by call, and those that installed packages name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from growkernels.errors import GrowthError
from growkernels.operators.average import AVERAGE
from growkernels.operators.base import DepthOperator, WidthOperator
from growkernels.operators.gstack import GSTACK
from growkernels.operators.hypercloning import HYPERCLONING
from growkernels.operators.interpolate import INTERPOLATE
from growkernels.operators.lemon import LEMON
from growkernels.operators.ligo import LIGO_DEPTH, LIGO_WIDTH
from growkernels.operators.llama_pro import LLAMA_PRO
from growkernels.operators.midas import LIDAS, MIDAS
from growkernels.operators.net2net import NET2NET
from growkernels.operators.random import RANDOM
from growkernels.operators.random_width import RANDOM_WIDTH
from growkernels.operators.solar import SOLAR
from growkernels.operators.zero import ZERO
from growkernels.operators.zero_width import ZERO_WIDTH

#: Group of the entry points by which packages name operators.
ENTRY_POINTS = "growkernels.operators"

#: By name; those of installed packages are added by `depth_operators` and `width_operators`.
DEPTH_OPERATORS: dict[str, DepthOperator] = {}
WIDTH_OPERATORS: dict[str, WidthOperator] = {}


def register_operator(operator: DepthOperator | WidthOperator) -> None:
    """Make an operator known by its name, to `depth_operator` or `width_operator` and the command line.

    Args:
        operator: what it is called, its functions and its claim.

    Raises:
        GrowthError: it is no operator, or its name is taken.

    Example:
        >>> register_operator(DepthOperator("twice", layers, Claim("depth", "no", "layers are repeated")))
    """
    if not isinstance(operator, DepthOperator | WidthOperator):
        raise GrowthError(f"{operator!r} is no operator; expected a DepthOperator or a WidthOperator.")
    if operator.name in (DEPTH_OPERATORS if isinstance(operator, DepthOperator) else WIDTH_OPERATORS):
        raise GrowthError(f"an operator {operator.name!r} is registered already; choose another name.")
    if isinstance(operator, DepthOperator):
        DEPTH_OPERATORS[operator.name] = operator
    else:
        WIDTH_OPERATORS[operator.name] = operator


def depth_operators() -> Mapping[str, DepthOperator]:
    """The depth operators by name, those of installed packages among them."""
    _register_installed()
    return DEPTH_OPERATORS


def width_operators() -> Mapping[str, WidthOperator]:
    """The width operators by name, those of installed packages among them."""
    _register_installed()
    return WIDTH_OPERATORS


@cache
def _register_installed() -> None:
    """Register what installed packages name as entry points; one that fails is warned of and left out."""
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            register_operator(entry.load())
        except Exception as error:
            why = f"its entry point {entry.value!r} failed ({type(error).__name__}: {error})"
            warnings.warn(f"growkernels goes without operator {entry.name!r}: {why}", stacklevel=2)


_DEPTH = (GSTACK, INTERPOLATE, LLAMA_PRO, SOLAR, MIDAS, LIDAS, ZERO, RANDOM, AVERAGE, LIGO_DEPTH)
_WIDTH = (HYPERCLONING, NET2NET, LEMON, ZERO_WIDTH, RANDOM_WIDTH, LIGO_WIDTH)

for _operator in (*_DEPTH, *_WIDTH):
    register_operator(_operator)
