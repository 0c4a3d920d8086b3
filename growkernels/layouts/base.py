"""Layouts: what every axis of every parameter of a model means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from growkernels.plans.rule import Kind
from growkernels.rules.tensor import TensorSpec

#: What an axis counts. `heads` and `kv_heads` count features (heads * head_dim), in whole heads; `fixed` never grows.
Symbol = Literal["hidden", "heads", "kv_heads", "ffn", "vocab", "fixed"]


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an axis that grows as one: its meaning and its size in the source."""

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
class TensorLayout:
    """One stored tensor. `name` is its name in the checkpoint file, `parameter` in the model's state dict.

    `input_axis` is the axis that matrix products sum over (None for embeddings, norms, biases); `group` is `name` with
    the layer number as `{}`; `layer` is None outside the layers.
    """

    name: str
    parameter: str
    spec: TensorSpec
    kind: Kind
    axes: tuple[Axis, ...]
    input_axis: int | None
    group: str
    layer: int | None


@dataclass(frozen=True, slots=True)
class ModelLayout:
    """A model: its stored tensors in file order, its sizes, and what it does outside of plain products."""

    model_type: str
    architecture: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorLayout]
    num_layers: int
    #: Sizes in the config's units: hidden, heads (count), kv_heads (count), ffn, vocab, head_dim.
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
    #: Source tensors that are not carried over (buffers, duplicates of tied weights), with the reason.
    dropped: Mapping[str, str] = field(default_factory=dict)
    #: Tied parameters, by the names that they would have in the file if untied -> the stored tensor they share.
    ties: Mapping[str, str] = field(default_factory=dict)
    #: Stored tensors that must equal another one bit for bit, because the class ties them -> that other tensor.
    duplicates: Mapping[str, str] = field(default_factory=dict)
    #: What changes with depth or width in ways that weights cannot mend.
    depth_warnings: tuple[str, ...] = ()
