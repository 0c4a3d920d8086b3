"""What an operator is: a name, and plain functions from sizes and meanings to index vectors and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from growkernels.layouts.base import ModelLayout, Symbol, TensorLayout
from growkernels.operators.options import GrowthOptions
from growkernels.plans import Claim, IndexVector, LearnedPart
from growkernels.plans.rule import Structure

#: How many copies of a feature of each meaning the target has.
Ratios = Mapping[Symbol, int]


@dataclass(frozen=True, slots=True)
class DepthOperator:
    """Grows the stack of layers. `index(num_layers, factor)` gives the source layer of each target layer.

    `reads`: the options that mean nothing to operators which do not name them.
    """

    name: str
    index: Callable[[int, int], tuple[int, ...]]
    claim: Claim
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorGrowth:
    """How one tensor grows in width: the numbers of its `Rule`, and whether it takes noise. `learned`: parts of its axes."""

    axes: tuple[IndexVector, ...]
    divisor: float = 1.0
    shift: float = 0.0
    structure: Structure = "all"
    noisy: bool = False
    learned: tuple[tuple[LearnedPart, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class WidthOperator:
    """Grows the features. `ratios` says how many copies there are of each meaning, `grow` what becomes of one tensor.

    `why` is the reason that the function is preserved (learned: that it is not), in words that end a sentence. `reads` as in
    `DepthOperator`.
    """

    name: str
    ratios: Callable[[ModelLayout, GrowthOptions], Ratios]
    grow: Callable[[TensorLayout, ModelLayout, Ratios, GrowthOptions], TensorGrowth]
    why: str
    reads: tuple[str, ...] = ()
