"""What an operator is: a name, and plain functions from sizes and meanings to layers and rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from growkernels.layouts.base import ModelLayout, Ratio, Symbol, TensorLayout
from growkernels.options import GrowthOptions
from growkernels.plans import Claim, Learned, Tile

#: How many features of each meaning the target has for one of the source's; a whole number where all are copied alike.
Ratios = Mapping[Symbol, Ratio]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the target: the source layer that it continues or copies.

    `identity`: it adds nothing to the residual stream, because what it writes there is zero (`writes_stream`). `fresh`: its
    weights are drawn as those of a new model. `averaged`: they are the mean of its source layer's and a neighbor's.
    `partner`: that neighbor, which is found in the model. `divisor`: what it writes to the stream is divided by it.
    """

    source: int
    identity: bool = False
    fresh: bool = False
    averaged: bool = False
    partner: int = -1
    divisor: int = 1


def plain(order: Sequence[int]) -> tuple[Layer, ...]:
    """Copies of the source's layers, in this order."""
    return tuple(map(Layer, order))


def repeats(order: Sequence[int]) -> tuple[bool, ...]:
    """For each entry whether it stands further in front already: the second and later copies of a layer are the new ones."""
    first = {source: place for place, source in reversed(list(enumerate(order)))}
    return tuple(first[source] < place for place, source in enumerate(order))


@dataclass(frozen=True, slots=True)
class DepthOperator:
    """Grows the stack of layers. `layers` gives the target's, in order, from the number of the source's and the options.

    `claim`: whether the function stays; what new layers that change nothing preserve is found from the layers themselves.
    `mixes`: every layer of the target is made from all layers of the source, by learned coefficients. `reads`: the options
    that mean nothing to operators which do not name them. `given`: the layers of an order that the user gives (`layers`).
    """

    name: str
    layers: Callable[[int, GrowthOptions], tuple[Layer, ...]]
    claim: Claim
    mixes: bool = False
    reads: tuple[str, ...] = ()
    given: Callable[[Sequence[int]], tuple[Layer, ...]] = plain


@dataclass(frozen=True, slots=True)
class WidthOperator:
    """Grows the features. `ratios` gives their numbers over the source's by meaning, `grow` what becomes of one tensor.

    The rule of a tensor is that of all copies of its layer; what differs among them is filled in later: the noise key of a
    `Tile`, the row of coefficients of a `Learned`. `why` is the reason that the function is preserved (learned: that it is
    not), in words that end a sentence. `reads` as in `DepthOperator`. `noise_snr_db`: the noise that it takes where the user
    leaves it to the operator; None for no noise. `preserves`: whether rules that copy keep the function.
    """

    name: str
    ratios: Callable[[ModelLayout, GrowthOptions], Ratios]
    grow: Callable[[TensorLayout, ModelLayout, Ratios, GrowthOptions], Tile | Learned]
    why: str
    reads: tuple[str, ...] = ()
    noise_snr_db: float | None = None
    preserves: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """One tensor of the target that experts made of a source tensor: what it is called and how it is made.

    `drawn_as`: the name that its random numbers are drawn by, with the layer as `{}`; its own where empty. `new`: it has no
    source.
    """

    tensor: TensorLayout
    how: Tile | Learned
    drawn_as: str = ""
    new: bool = False


@dataclass(frozen=True, slots=True)
class ExpertGrowth:
    """What becomes of the experts of one model.

    `make` gives the target tensors that a source tensor becomes, from what depth and width make of it; `config` the target's
    config from theirs. `why` is the reason that the function is preserved, or, with `preserves` false, that it is not.
    """

    make: Callable[[TensorLayout, Tile], tuple[Made, ...]]
    config: Callable[[dict[str, Any]], dict[str, Any]]
    why: str
    preserves: bool = True
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpertOperator:
    """Grows the experts, or makes a dense model one of experts, where its option is given: `begin` says how.

    `options` are the fields of `GrowthOptions` that ask for it, one of them at a time. `with_width`: whether the width may
    grow too. `noise_snr_db`: what noise it takes where auto is asked for.
    """

    name: str
    options: tuple[str, ...]
    begin: Callable[[ModelLayout, GrowthOptions], ExpertGrowth]
    with_width: bool = False
    noise_snr_db: float | None = None
