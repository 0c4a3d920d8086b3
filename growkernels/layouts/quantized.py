"""Quantized checkpoints: their layers can be copied as they are, bit for bit; what their numbers mean is not touched.

A quantized weight is stored as itself in another dtype, or as pieces beside each other: its codes and its scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from growkernels.errors import GrowthError
from growkernels.layouts.base import ModelLayout
from growkernels.rules.tensor import TensorSpec


@dataclass(frozen=True, slots=True)
class Method:
    """A way to quantize: endings of stored pieces -> those of the weights that they are pieces of, dtypes, and the remedy."""

    name: str
    pieces: Mapping[str, str]
    dtypes: tuple[str, ...]
    #: The config of transformers that reads such a checkpoint as plain weights.
    config: str

    def weight_name(self, name: str) -> str:
        """The name of the weight that a stored tensor is, or is a piece of."""
        return next((name.removesuffix(e) + whole for e, whole in self.pieces.items() if name.endswith(e)), name)

    def is_piece(self, name: str, spec: TensorSpec) -> bool:
        """Whether a stored tensor is a quantized weight, or a part of one."""
        return self.weight_name(name) != name or spec.dtype in self.dtypes

    def refusal(self, tensors: Mapping[str, TensorSpec]) -> str:
        """Why the width cannot grow, and the command that dequantizes the stored tensors, so that it can."""
        command = (
            f'python -c "import sys, torch, transformers as t; t.AutoModelForCausalLM.from_pretrained(sys.argv[1], '
            f'dtype=torch.bfloat16, quantization_config=t.{self.config}(dequantize=True)).save_pretrained(sys.argv[2])" '
            f"SRC DST"
        )
        if any(self._is_uneven(name, tensors) for name in tensors):
            # transformers divides weights by their scales, and takes whole blocks alone.
            command = (
                "python inference/fp8_cast_bf16.py --input-fp8-hf-path SRC --output-bf16-hf-path DST (of the repository of "
                "DeepSeek-V3; transformers dequantizes whole blocks alone), and remove quantization_config from config.json"
            )
        return f"its weights are quantized ({self.name}), and a wider model needs other scales. Dequantize it first: {command}"

    def _is_uneven(self, name: str, tensors: Mapping[str, TensorSpec]) -> bool:
        weight = tensors.get(self.weight_name(name))
        if weight is None or not name.endswith("_scale_inv"):
            return False
        return any(size % count for size, count in zip(weight.shape, tensors[name].shape, strict=True))


METHODS = {
    "fp8": Method("fp8", {"_scale_inv": ""}, ("float8_e4m3fn",), "FineGrainedFP8Config"),
    "mxfp4": Method("mxfp4", {"_blocks": "", "_scales": ""}, (), "Mxfp4Config"),
}


def method_of(config: Mapping[str, Any]) -> Method | None:
    """How a checkpoint is quantized; None where it is not. Raises GrowthError for ways whose files are not known."""
    given = config.get("quantization_config")
    if given in (None, {}):
        return None
    method = given.get("quant_method") if isinstance(given, dict) else None
    if method not in METHODS:
        raise GrowthError(
            f"config.json sets quantization_config to {given!r}: weights that are quantized in this way cannot be grown, "
            f"only copied layer by layer, and that for {' and '.join(METHODS)} alone; start from the checkpoint before "
            f"quantization, or dequantize it and save it again."
        )
    return METHODS[method]


def check_pieces(
    method: Method, config: Mapping[str, Any], tensors: Mapping[str, TensorSpec], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise GrowthError unless every quantized weight has its scales, and they are as many as it needs.

    shapes: of the weights in the model, by stored name of a tensor.
    """
    for name, spec in tensors.items():
        if not method.is_piece(name, spec):
            continue
        wanted = _pieces(method, config, method.weight_name(name), shapes[name])
        for piece, shape in wanted.items():
            if piece not in tensors:
                raise GrowthError(f"{name} is quantized ({method.name}), and {piece} is missing from the checkpoint.")
            if tensors[piece].shape != shape:
                raise GrowthError(
                    f"{piece} has shape {list(tensors[piece].shape)}, but config.json gives {list(shape)}. "
                    "The config is not that of these weights: take both from the same checkpoint."
                )


def _pieces(
    method: Method, config: Mapping[str, Any], weight: str, shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """What is stored of a quantized weight, with the shapes."""
    if method.name == "mxfp4":
        # Scales of 32 entries each, along the axis that is summed over; two codes in a byte.
        *batch, summed, put_out = shape
        scales = (*batch, put_out, -(-summed // 32))
        return {f"{weight}_blocks": (*scales, 16), f"{weight}_scales": scales}
    block = config["quantization_config"].get("weight_block_size") or shape[-2:]
    *batch, rows, columns = shape
    return {weight: shape, f"{weight}_scale_inv": (*batch, -(-rows // block[0]), -(-columns // block[1]))}


def refuse_live(layout: ModelLayout) -> None:
    """Raise GrowthError for a quantized model that would have to be in memory, where its weights have another form."""
    if layout.quantized:
        raise GrowthError(
            f"the weights are quantized ({layout.quantized}), and a live model of them is not known: load it without "
            f"quantization, or grow the files by growkernels.grow_checkpoint."
        )
