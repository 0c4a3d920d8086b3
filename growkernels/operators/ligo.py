"""LiGO: learned growth, `W'_i = B (sum_j w_ij W_j) A^T` (arXiv 2303.00980).

What is shared decides what can be learned. Every axis of the residual stream has one matrix, whether it is read or written;
so has the inside of the feed-forward network, where gate, up and down meet. What attention projects to has a matrix of its own
for q, k and v, and o reads the heads through another: under grouped-query attention none of them could be shared. Heads are
mixed whole, so that rotary pairs, q/k norms and the parts of a fused projection stay what they are. A norm or bias grows
by the matrix of its axis. Each kind of tensor has its own coefficients over the layers.
"""

from __future__ import annotations

from growkernels.errors import GrowthError
from growkernels.layouts.base import Axis, ModelLayout, Part, Ratio, Symbol, TensorLayout
from growkernels.operators import gstack, interpolate
from growkernels.operators.base import DepthOperator, Layer, Ratios, WidthOperator
from growkernels.operators.sizes import find_whole_ratios
from growkernels.options import GrowthOptions
from growkernels.plans import Claim, Learned, LearnedPart

#: Orders of layers that the coefficients can start from.
DEPTH_STARTS = {"stack": gstack.layers, "interpolate": interpolate.layers}


def ratios(layout: ModelLayout, options: GrowthOptions) -> dict[Symbol, Ratio]:
    """How many times as many features of each kind the target has. Raises GrowthError for families that cannot."""
    if layout.norm_offset or layout.embedding_scaled:
        raise GrowthError(
            f"ligo cannot grow {layout.model_type}: it stores norms as gamma - 1 and multiplies embeddings by sqrt(hidden), "
            f"which matrices do not carry over. Use gstack and hypercloning."
        )
    sizes: dict[Symbol, set[int]] = {}
    for part in (part for tensor in layout.tensors.values() for axis in tensor.axes for part in axis.parts):
        sizes.setdefault(part.symbol, set()).add(part.size)
    # One matrix serves every axis of the stream and one the inside of all feed-forward networks; heads are mixed whole.
    shared = all(len(sizes.get(symbol, ())) <= 1 for symbol in ("hidden", "ffn"))
    if not shared or "heads" not in sizes or sizes.keys() & {"inner", "groups", "layers"}:
        raise GrowthError(
            f"ligo cannot grow {layout.model_type}: its matrices need one size of the stream and of feed-forward networks, "
            f"and attention heads alone. Use gstack and hypercloning."
        )
    found = find_whole_ratios(layout, options)
    if found["vocab"] != 1 or found.get("head_dim", 1) != 1:
        raise GrowthError(
            "vocab_size and head_dim are for operators that copy; ligo has no matrix for tokens, nor for the inside of heads. "
            "Grow them in a step of their own."
        )
    return found


def grow(tensor: TensorLayout, layout: ModelLayout, ratios: Ratios, options: GrowthOptions) -> Learned:
    """What becomes of one tensor: the parts of its axes with their matrices."""
    axes = tuple(_parts(tensor, number, axis, layout, ratios) for number, axis in enumerate(tensor.axes))
    return Learned(f"mix {tensor.group}", 0, axes, tensor.input_axis)


def layers(num_layers: int, options: GrowthOptions) -> tuple[Layer, ...]:
    """The layers that the coefficients start from."""
    return DEPTH_STARTS[options.depth_init](num_layers, options)


def _parts(
    tensor: TensorLayout, number: int, axis: Axis, layout: ModelLayout, ratios: Ratios
) -> tuple[LearnedPart, ...]:
    return tuple(_part(tensor, number, place, axis, part, layout, ratios) for place, part in enumerate(axis.parts))


def _part(
    tensor: TensorLayout, number: int, place: int, axis: Axis, part: Part, layout: ModelLayout, ratios: Ratios
) -> LearnedPart:
    ratio = ratios[part.symbol]
    if ratio == 1:
        return LearnedPart(None, part.size, part.size)
    if part.symbol not in ("heads", "kv_heads"):
        return LearnedPart(part.symbol, part.size, int(part.size * ratio))
    module = tensor.group.rpartition(".")[0]
    name = f"{module}[{place}]" if len(axis.parts) > 1 else module
    if number == tensor.input_axis:
        name = part.symbol
    return LearnedPart(name, part.size, int(part.size * ratio), part.size // layout.sizes[part.symbol])


LIGO_DEPTH = DepthOperator(
    name="ligo",
    layers=layers,
    claim=Claim(
        "depth", "no", "each layer is a learned mix of the source's layers; its training lowers the loss instead"
    ),
    mixes=True,
    reads=("depth_init", "init_noise"),
)
LIGO_WIDTH = WidthOperator(
    name="ligo",
    ratios=ratios,
    grow=grow,
    why="every axis is mapped by a learned matrix; its training lowers the loss instead",
    reads=("width_init", "init_noise"),
)
