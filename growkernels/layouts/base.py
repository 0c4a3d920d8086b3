"""Layouts: what every axis of every parameter of a model means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import torch

from growkernels.plans.rule import Kind
from growkernels.rules.tensor import TensorSpec

#: What an axis counts. `heads` and `kv_heads` count features (heads * head_dim), in whole heads. `inner` is the inside of a
#: state-space, recurrent or linear-attention block and `groups` its groups: both grow as hidden does. `experts` and `layers`
#: count blocks and never grow in width; `fixed` never grows. `head_dim` is the size of a head, which no axis counts alone.
Symbol = Literal[
    "hidden", "heads", "kv_heads", "head_dim", "ffn", "inner", "groups", "experts", "layers", "vocab", "fixed"
]

#: A size of the target over the source's: a whole number where everything is copied equally often.
Ratio = int | Fraction

#: The symbols that one `width` multiplies together.
WIDTH_SYMBOLS: tuple[Symbol, ...] = ("hidden", "heads", "kv_heads", "inner", "groups")


@dataclass(frozen=True, slots=True)
class Part:
    """A range of an axis that grows as one: its meaning and its size in the source."""

    symbol: Symbol
    size: int


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: its parts in order. Most axes have one; a fused `[q | k | v]` has three."""

    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Size in the source."""
        return sum(part.size for part in self.parts)

    def __str__(self) -> str:
        return " | ".join(part.symbol for part in self.parts)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stored tensor is in the state dict: `parameter[index].permute(order)`, inside the tensor from `start` on.

    Most are one whole parameter. A file that stores experts one by one has many places in one stacked parameter; a tensor
    that is fused in the file alone has several places, one after another along `axis`.
    """

    parameter: str
    #: One entry for each axis of the parameter: a number, or a range; empty for the whole parameter.
    index: tuple[int | slice, ...] = ()
    #: Order of the axes that are left; empty where it is theirs.
    order: tuple[int, ...] = ()
    #: The axis of the stored tensor that its places divide, and where on it this one starts.
    axis: int = 0
    start: int = 0


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """One stored tensor. `name` is its name in the checkpoint file, `parameter` in the model's state dict.

    `input_axis` is the axis that matrix products sum over (None for embeddings, norms, biases), `output_axis` the one they
    put out; all other axes are batch axes (experts, taps of a convolution), and each entry of them a matrix of its own.
    `group` is `name` with the layer number as `{}`; `layer` is None outside the layers.
    """

    name: str
    parameter: str
    spec: TensorSpec
    kind: Kind
    axes: tuple[Axis, ...]
    input_axis: int | None
    group: str
    layer: int | None
    output_axis: int | None = None
    #: The power of hidden by which the class itself multiplies what this tensor puts out.
    power: float = 0.0
    #: Whether the tensor puts out what is added to the residual stream: with zero in all of them a layer changes nothing. Where
    #: a norm follows a block before the sum, it is that norm's gain, which is zero at `-norm_offset`.
    writes_stream: bool = False
    #: Where it is in the state dict; empty for the whole of `parameter`.
    places: tuple[Place, ...] = ()

    @property
    def batch_axes(self) -> tuple[int, ...]:
        """The axes of a stack of matrices that are neither summed over nor put out; empty for everything else."""
        if self.input_axis is None:
            return ()
        return tuple(axis for axis in range(len(self.axes)) if axis not in (self.input_axis, self.output_axis))


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A model: its stored tensors in file order, its sizes, and what it does outside of plain products."""

    model_type: str
    architecture: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorLayout]
    num_layers: int
    #: Sizes in the config's units: hidden, heads (count), kv_heads (count), ffn, vocab, head_dim; those that it has.
    sizes: Mapping[str, int]
    #: Whether the LM head reads the embedding's tensor.
    tied_head: bool
    #: Names of the tensors (weight, and bias if any) of the norm that feeds the LM head; empty if it has none.
    head_norm: tuple[str, ...]
    #: Name of the LM head's weight in the file, also where it is tied and not stored; None for models without a head.
    head_name: str | None
    #: Subtracted from a norm's gamma when it is stored: 1 for Gemma, 0 elsewhere.
    norm_offset: float = 0.0
    #: Whether the embedding is multiplied by sqrt(hidden) before it enters the stream.
    embedding_scaled: bool = False
    #: The dtype that the class rounds sqrt(hidden) to before it multiplies; empty where it does not matter.
    scale_dtype: str = ""
    #: Source tensors that are not carried over (buffers, duplicates of tied weights), with the reason.
    dropped: Mapping[str, str] = field(default_factory=dict)
    #: Tied parameters, by the names that they would have in the file if untied -> the stored tensor they share.
    ties: Mapping[str, str] = field(default_factory=dict)
    #: Stored tensors that must equal another one bit for bit, because the class ties them -> that other tensor.
    duplicates: Mapping[str, str] = field(default_factory=dict)
    #: What changes with depth or width in ways that weights cannot make up for.
    depth_warnings: tuple[str, ...] = ()
    #: Power of hidden by which the class multiplies the LM head's product (-1/2 in T5).
    head_power: float = 0.0
    #: Standard deviation of the weights of a new model.
    initializer_range: float = 0.02
    #: Why the width cannot grow; empty where it can.
    width_refusal: str = ""
    #: Why the number of heads cannot grow, whatever else does; empty where it can.
    heads_refusal: str = ""
    #: Why no layer can be made one that changes nothing; empty where zero in all that `writes_stream` is shown to do so.
    identity_refusal: str = ""
    #: For each symbol that the config sizes, the keys that do; dotted where they are nested.
    keys: Mapping[Symbol, tuple[str, ...]] = field(default_factory=dict)
    #: Layers that have the same tensors in the same shapes have the same number.
    layer_kinds: Sequence[int] = ()
    #: Whether a user declared what its class does, which nothing else has confirmed.
    declared: bool = False
    #: Whether the table does not know the type, and a tiny twin has confirmed what was derived.
    derived: bool = False
    #: Path and first number of the modules that are repeated, such as `model.layers`.
    stacks: tuple[str, ...] = ()
    #: How weights are quantized, which are only copied then; empty where they are plain numbers.
    quantized: str = ""
    #: What the user should know, whatever grows.
    notes: tuple[str, ...] = ()

    def power_of_width(self, ratio: Ratio, power: float) -> float:
        """By how much more the class itself multiplies by hidden**power once hidden is `ratio` times as large."""
        if self.scale_dtype and power == 0.5:
            dtype = getattr(torch, self.scale_dtype)
            before, after = (torch.tensor((self.sizes["hidden"] * n) ** 0.5, dtype=dtype).item() for n in (1, ratio))
            return after / before
        return float(ratio) ** power
