"""What an operator is: a name, and plain functions from sizes and meanings to layers and rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.options import GrowthOptions
from growkernels.plans import Claim, Learned, Tile

#: How many features of each meaning the target has for one of the source's; a whole number where all are copied alike.
Ratios = Mapping[Symbol, Ratio]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the target: the source layer that it continues or copies.

    `identity`: it adds nothing to the residual stream, because what it writes there is zero (`writes_stream`).
    """

    source: int
    identity: bool = False


@dataclass(frozen=True, slots=True)
class DepthOperator:
    """Grows the stack of layers. `layers` gives the target's, in order, from the number of the source's and the options.

    `mixes`: every layer of the target is made from all layers of the source, by learned coefficients. `reads`: the options
    that mean nothing to operators which do not name them.
    """

    name: str
    layers: Callable[[int, GrowthOptions], tuple[Layer, ...]]
    claim: Claim
    mixes: bool = False
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WidthOperator:
    """Grows the features. `ratios` gives their numbers over the source's by meaning, `grow` what becomes of one tensor.

    The rule of a tensor is that of all copies of its layer; what differs among them is filled in later: the noise key of a
    `Tile`, the row of coefficients of a `Learned`. `why` is the reason that the function is preserved (learned: that it is
    not), in words that end a sentence. `reads` as in `DepthOperator`. `preserves`: whether rules that copy keep the function.
    """

    name: str
    ratios: Callable[[ModelLayout, GrowthOptions], Ratios]
    grow: Callable[[TensorLayout, ModelLayout, Ratios, GrowthOptions], Tile | Learned]
    why: str
    reads: tuple[str, ...] = ()
    preserves: bool = True
