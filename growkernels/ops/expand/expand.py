"""`expand`: learned growth, `target_l = B (sum_j w_lj W_j) A^T`, differentiable in everything that goes in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from growkernels.errors import GrowthError
from growkernels.ops.autocast import cast_factors
from growkernels.ops.backends import ops_of
from growkernels.ops.checks import check_dtype, check_memory, check_target, check_tensor, check_tensors
from growkernels.ops.expand.packing import Expansion, pack
from growkernels.ops.transforms import check_transforms


def expand(
    weights: Tensor | Sequence[Tensor],
    b: Tensor | None,
    a: Tensor | None,
    depth: Tensor | None = None,
    structured: bool = False,
    dtype: torch.dtype | None = None,
    *,
    backend: str | None = None,
) -> Tensor:
    """Grow a stack of layers by learned matrices, `target_l = B (sum_j depth[l, j] W_j) A^T`: LiGO, arXiv 2303.00980.

    Dtypes are float32, bfloat16, float16 and float64 in any mix; arithmetic is in float32, in float64 if a tensor is. On a
    GPU, where weights, b and a are all bfloat16, the factors of products are rounded to it. Under `torch.autocast` what is
    multiplied by b or a is cast to its dtype, with them, as by `torch.mm`; what is only mixed or copied is not.
    First-order reverse-mode autograd in weights, b, a and depth: a call saves at most half the size of its result for
    backward, and backward computes the rest again.

    Args:
        weights: [L1, O, I], or a list of [O, I] that are read in place; vectors: [L1, O], or a list of [O].
        b: [O', O], or None for the identity.
        a: [I', I], or None for the identity. Vectors have one side: `b`, or `a`.
        depth: [L2, L1]; None for layer l from layer l. L2 may be less than L1: a few of the target's layers at a time.
        structured: `b` [O' - O, O] and `a` [I' - I, I] are the rows below an identity, and only they are multiplied.
        dtype: of the result; None: that of the weights.
        backend: "cpu", "cuda", "triton" or "eager"; None chooses by the device.

    Returns:
        [L2, O', I'], or [L2, O'] of vectors.

    Raises:
        GrowthError: shapes, dtypes or devices do not fit, or a transform of `torch.func` follows a tensor.

    Example:
        >>> ops.expand([torch.randn(4, 4) for _ in range(2)], torch.randn(8, 4), torch.randn(8, 4)).shape
        torch.Size([2, 8, 8])
    """
    return expand_many([Expansion(weights, b, a, depth, structured)], dtype, backend=backend)[0]


def expand_(
    out: Tensor | Sequence[Tensor],
    weights: Tensor | Sequence[Tensor],
    b: Tensor | None,
    a: Tensor | None,
    depth: Tensor | None = None,
    structured: bool = False,
    *,
    backend: str | None = None,
) -> None:
    """Write what `expand` returns into memory that is there.

    Records no gradient and, as `out=` forms of torch, does not follow `torch.autocast`.

    Args:
        out: [L2, O', I'] or a list of [O', I'], any strides and supported dtypes, overlapping no input.
        weights, b, a, depth, structured, backend: as in `expand`.

    Raises:
        GrowthError: arguments do not fit.

    Example:
        >>> ops.expand_(torch.empty(1, 8, 4), torch.randn(1, 4, 4), torch.randn(8, 4), None)
    """
    expand_many_([out], [Expansion(weights, b, a, depth, structured)], backend=backend)


def expand_many(
    expansions: Sequence[Expansion], dtype: torch.dtype | None = None, *, backend: str | None = None
) -> list[Tensor]:
    """Grow the stacks of several modules in one call, as `expand` grows one.

    A matrix that several share has its gradient summed once.

    Args:
        expansions: one for each module.
        dtype: of the results; None: that of each one's layers, which must then agree.
        backend: as in `expand`.

    Returns:
        One tensor for each.

    Raises:
        GrowthError: as in `expand`.

    Example:
        >>> ops.expand_many([ops.Expansion(queries, b, a, depth), ops.Expansion(keys, b, a, depth)])
    """
    stacks = [cast_factors(stack) for stack in _all_checked("expand", expansions)]
    if dtype is not None:
        check_dtype("dtype", dtype)
    dtypes = [_dtype(stack) if dtype is None else dtype for stack in stacks]
    grown: dict[int, Tensor] = {}
    for each in dict.fromkeys(dtypes):
        places = [k for k, other in enumerate(dtypes) if other == each]
        some = [stacks[k] for k in places]
        weights, matrices, layout = pack(some)
        needed = [t.requires_grad for t in (*weights, *matrices)] if torch.is_grad_enabled() else []
        targets, _ = ops_of(backend, some[0].weights[0]).expand(weights, matrices, layout, each, needed)
        for k, target in zip(places, targets, strict=True):
            grown[k] = target.squeeze(1) if _are_vectors(expansions[k]) else target
    return [grown[k] for k in range(len(stacks))]


def expand_many_(
    outs: Sequence[Tensor | Sequence[Tensor]], expansions: Sequence[Expansion], *, backend: str | None = None
) -> None:
    """Write what `expand_many` returns into memory that is there: `outs[k]` from `expansions[k]`.

    Args:
        outs: for each expansion what `expand_` takes.
        expansions, backend: as in `expand_many`.

    Raises:
        GrowthError: arguments do not fit.

    Example:
        >>> ops.expand_many_([queries_out, keys_out], [queries, keys])
    """
    stacks = _all_checked("expand_", expansions)
    if not hasattr(outs, "__len__"):
        raise GrowthError(f"outs is of type {type(outs).__name__}; expected a list with an out for each expansion")
    if len(outs) != len(expansions):
        raise GrowthError(f"{len(outs)} outs for {len(expansions)} expansions; expected equal numbers")
    targets: list[Tensor] = []
    for out, stack, expansion in zip(outs, stacks, expansions, strict=True):
        layers = _layers("out", out)
        check_transforms("expand_", layers)
        if len(layers) != stack.target_layers:
            raise GrowthError(f"out has {len(layers)} layers; expand with this depth writes {stack.target_layers}")
        vectors = _are_vectors(expansion)
        shape = stack.target_shape[1:] if vectors else stack.target_shape
        inputs = [t for t in (*stack.weights, stack.b, stack.a, stack.depth) if t is not None]
        for layer in layers:
            for tensor in inputs:
                check_target(layer, tensor, shape, "expand with these matrices")
        targets += [layer.unsqueeze(0) for layer in layers] if vectors else layers
    weights, matrices, layout = pack(stacks)
    check_memory(targets, [*weights, *matrices])
    if targets:
        ops_of(backend, targets[0]).expand_(targets, weights, matrices, layout)


def _layers(name: str, tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    if isinstance(tensors, Tensor):
        check_tensor(name, tensors)
        return list(tensors.unbind()) if tensors.ndim else [tensors]
    check_tensors(name, tensors)
    for tensor in tensors:
        check_tensor(f"a layer of {name}", tensor)
    return list(tensors)


def _dtype(stack: Expansion) -> torch.dtype:
    """That of all layers."""
    dtypes = {str(weight.dtype) for weight in stack.weights}
    if len(dtypes) > 1:
        raise GrowthError(f"weights have dtypes {', '.join(sorted(dtypes))}; choose the result's with dtype=")
    return stack.weights[0].dtype


def _are_vectors(expansion: Expansion) -> bool:
    return expansion.weights[0].ndim == 1


def _all_checked(op: str, expansions: Sequence[Expansion]) -> list[Expansion]:
    if isinstance(expansions, (Expansion, Tensor)) or not hasattr(expansions, "__len__"):
        raise GrowthError(
            f"expansions is of type {type(expansions).__name__}; expected a list: [Expansion(weights, b, a, depth, structured)]"
        )
    return [_checked(op, expansion) for expansion in expansions]


def _checked(op: str, expansion: Expansion) -> Expansion:
    """The same as a list of matrices; a vector is one row."""
    if not isinstance(expansion, Expansion):
        raise GrowthError(
            f"an expansion is of type {type(expansion).__name__}; expected Expansion(weights, b, a, depth, structured)"
        )
    weights, b, a, depth, structured = expansion
    layers = _layers("weights", weights)
    matrices = [(name, matrix) for name, matrix in (("b", b), ("a", a), ("depth", depth)) if matrix is not None]
    for name, matrix in matrices:
        check_tensor(name, matrix)
    check_transforms(op, (*layers, *(matrix for _, matrix in matrices)))
    if not isinstance(structured, bool):
        by_name = ", and the dtype by name: dtype=" if isinstance(structured, torch.dtype) else ""
        raise GrowthError(f"structured is {structured!r}; expected True or False{by_name}")
    if isinstance(weights, Tensor) and weights.ndim not in (2, 3):
        raise GrowthError(f"weights have shape {tuple(weights.shape)}; expected [L1, O, I], or [L1, O] for vectors")
    if not layers:
        raise GrowthError("no weights; expected at least one layer")
    shape = layers[0].shape
    if len(shape) not in (1, 2) or 0 in shape:
        raise GrowthError(f"a layer has shape {tuple(shape)}; expected [O, I] or [O], not empty")
    for k, layer in enumerate(layers):
        if layer.shape != shape:
            raise GrowthError(
                f"layer {k} has shape {tuple(layer.shape)}, layer 0 {tuple(shape)}; the layers of a stack have one shape"
            )
    if len(shape) == 1 and b is not None and a is not None:
        raise GrowthError(f"layers of shape {tuple(shape)} have one side, but b and a are both given; give one of them")
    sizes = (shape[0], shape[-1])
    for name, side, size in zip("ba", (b, a), sizes, strict=True):
        if side is not None:
            _check_side(name, side, size, structured)
    if depth is not None and (depth.ndim != 2 or depth.shape[1] != len(layers) or not len(depth)):
        raise GrowthError(
            f"depth has shape {tuple(depth.shape)}; expected [L2, {len(layers)}], a row for each target layer, one at least, "
            f"and a number for each of the {len(layers)} layers of weights"
        )
    for name, tensor in (*(("a layer", layer) for layer in layers), *matrices):
        check_dtype(name, tensor.dtype)
        if tensor.device != layers[0].device:
            raise GrowthError(
                f"{name} is on {tensor.device}, the first layer on {layers[0].device}; put them on one device"
            )
    if len(shape) == 1:
        return Expansion([layer.unsqueeze(0) for layer in layers], None, a if b is None else b, depth, structured)
    return Expansion(layers, b, a, depth, structured)


def _check_side(name: str, matrix: Tensor, size: int, structured: bool) -> None:
    if matrix.ndim != 2 or matrix.shape[1] != size:
        expected = f"[new, {size}], the rows below the identity" if structured else f"[target, {size}]"
        raise GrowthError(
            f"{name} has shape {tuple(matrix.shape)}; expected {expected} for layers with this side {size}"
        )
    if not structured and len(matrix) < size:
        raise GrowthError(
            f"{name} has shape {tuple(matrix.shape)}: a target side of {len(matrix)} is smaller than the source's {size}; "
            f"with structured=True it would be the rows below an identity"
        )
