"""Which tensors write the residual stream: what operators set to zero so that a new layer starts as the identity."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedConfig

from growkernels.layouts.base import TensorLayout
from growkernels.layouts.family import Family
from growkernels.layouts.identity import NO_IDENTITY, SHOWN, WRITERS
from growkernels.layouts.keys import words
from growkernels.layouts.knobs import reason_of
from growkernels.layouts.parameters import Parameter
from growkernels.layouts.probe import Probed

#: Last names of the modules whose output is added to the stream, in classes whose shapes cannot tell.
_NAMES = frozenset(
    words(
        "o_proj out_proj c_proj dense_4h_to_h fc2 fc_out down_proj w2 output_linear linear_out out_lin lin2 wo "
        "attn_ffn_output proj_down attention_out project_out"
    )
)
_INSIDE = frozenset(("heads", "kv_heads", "ffn", "inner"))


def writes_stream(family: Family, parameter: Parameter, probed: Probed) -> bool:
    """Whether what a weight puts out is added to the residual stream."""
    endings = family.writers or WRITERS.get(family.model_type)
    if endings:
        return any(f".{parameter.name}".endswith(f".{ending}") for ending in endings)
    if probed.input_axis is None or probed.output_axis is None or str(probed.axes[probed.output_axis]) != "hidden":
        return False
    summed = {part.symbol for part in probed.axes[probed.input_axis].parts}
    return summed <= _INSIDE or parameter.name.rpartition(".")[0].rpartition(".")[2] in _NAMES


def with_biases(layouts: dict[str, TensorLayout]) -> dict[str, TensorLayout]:
    """The layouts with the biases marked whose weights write the stream."""
    weights = {tensor.parameter for tensor in layouts.values() if tensor.writes_stream}
    # Of modules with one weight, and of stacks that have their bias beside them.
    biases = {f"{name.removesuffix('.weight')}.bias" for name in weights} | {f"{name}_bias" for name in weights}
    return {
        name: replace(tensor, writes_stream=True) if tensor.parameter in biases else tensor
        for name, tensor in layouts.items()
    }


def identity_refusal(family: Family, loaded: PreTrainedConfig) -> str:
    """Why no layer can be made one that changes nothing, empty where zero writers are shown to do so."""
    reason = reason_of(family.no_identity or NO_IDENTITY.get(family.model_type, ""), loaded)
    if reason or family.writers or family.model_type in SHOWN:
        return reason
    return (
        f"it is not shown which parameters of {family.model_type} put out what is added to the residual stream. Name them as "
        f"writers in its growkernels.layouts.Family"
    )
