"""What a row of the table of families can say: everything about a `model_type` that its class does not show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from growkernels.layouts.base import Ratio, Symbol

#: Parts of an axis in order; each is a symbol and how many times its features stand side by side in every head.
Parts = tuple[tuple[Symbol, int], ...]
#: Parts of an axis as a row declares them: by features, as a number of equal parts, or by sizes that the config gives.
Declared = Parts | int | Callable[[PreTrainedConfig], Parts]

HEADS: Parts = (("heads", 1),)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A config key that stops growth unless it holds one of `allowed`."""

    key: str
    allowed: tuple[Any, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type`. Every field but the first has a default that fits the plain decoder.

    Endings are those of a module's name (`mlp.gate_up_proj`) or of a parameter's (`experts.w1`).
    """

    model_type: str
    #: Classes that can be grown; empty for the usual tasks of the type.
    architectures: tuple[str, ...] = ()
    #: Config keys and what they count, where the generic table of keys does not know them or is wrong; None: nothing.
    keys: Mapping[str, Symbol | None] = field(default_factory=dict)
    #: The key of the number of layers, and paths of the modules that are repeated; empty for the usual names.
    layers: str = ""
    stacks: tuple[str, ...] = ()
    #: Whether all layers are one module, so that their number is the config's alone.
    layers_shared: bool = False
    #: Whether the type has classes with an encoder and a decoder, which grow together.
    encoder_decoder: bool = False
    #: Ending of the norm that feeds the LM head; empty for the last one behind the layers.
    head_norm: str = ""
    #: Where the ffn key is null: this times hidden.
    ffn_default: int | None = None
    #: Whether heads cannot be sized apart from hidden although the config pins the head size.
    heads_tied: bool = False
    #: Whether key and value heads cannot be sized apart from query heads: they stand side by side in one tensor.
    kv_tied: bool = False
    #: Parts of the axis that a tensor puts out, and of the one that it sums over, by ending.
    outputs: Mapping[str, Declared] = field(default_factory=dict)
    inputs: Mapping[str, Declared] = field(default_factory=dict)
    #: The axis that products sum over, for parameters of the class's own modules; None for none.
    input_axes: Mapping[str, int | None] = field(default_factory=dict)
    #: Power of hidden by which the class multiplies what a tensor puts out.
    powers: Mapping[str, float] = field(default_factory=dict)
    head_power: Callable[[PreTrainedConfig], float] | None = None
    norm_offset: float = 0.0
    #: Whether the embedding is multiplied by sqrt(hidden), None: as the config says; and the dtype that this is rounded to.
    embedding_scaled: bool | None = None
    scale_dtype: str = ""
    #: Classes to look up tensors in that the config's own class does not know (files often hold more).
    supersets: tuple[str, ...] = ()
    #: Endings of file names that hold buffers, which every class computes itself.
    buffers: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    #: Why the width cannot grow: always, or where the function gives a reason for a config.
    width_refusal: str | Callable[[PreTrainedConfig], str] = ""
    #: Why the number of heads cannot grow, whatever else does.
    heads_refusal: str | Callable[[PreTrainedConfig], str] = ""
    #: Why the layers cannot be others.
    depth_refusal: str | Callable[[PreTrainedConfig], str] = ""
    #: Config keys that, when true, make a layer depend on its place in the stack; "" for always.
    depth_warnings: Mapping[str, str] = field(default_factory=dict)
    #: Endings of the parameters that put out what is added to the residual stream, where generic rules would name others:
    #: in families that norm each block's output before it is added, the gains of those norms.
    writers: tuple[str, ...] = ()
    #: Why a layer cannot be made one that changes nothing; empty where zero writers do so.
    no_identity: str | Callable[[PreTrainedConfig], str] = ""
    #: Config keys that change in a way of their own: the new values by key, from config, ratios and number of layers.
    derived: Callable[[PreTrainedConfig, Mapping[Symbol, Ratio], int], Mapping[str, Any]] | None = None
    #: Whether the row is a guess that a tiny twin of the model has confirmed.
    derived_row: bool = False
    #: For classes that are not of transformers: the model of a config, as the keys of its `config.json`.
    build: Callable[[Mapping[str, Any]], nn.Module] | None = None
    #: The class itself, and the config of a model of it.
    module: type[nn.Module] | None = None
    config_of: Callable[[nn.Module], Mapping[str, Any]] | None = None
    #: The parameter that puts out the logits, where the class has no `get_output_embeddings`.
    head: str = ""
