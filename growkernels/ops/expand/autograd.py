"""Fake kernels and gradients of `expand` and its parts, the same for every backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops.checks import check_devices
from growkernels.ops.expand.packing import empty_targets
from growkernels.ops.expand.saved import empty_saved, saved_formats
from growkernels.ops.transforms import check_batched


def fake_in_place(*arguments: Any) -> None:
    """In-place ops return nothing. Called too where only some tensors are on the meta device, which would be ignored."""
    lists = [argument if isinstance(argument, (list, tuple)) else [argument] for argument in arguments]
    check_devices([tensor for tensors in lists for tensor in tensors if isinstance(tensor, Tensor)])


def _fake_expand(
    namespace: str,
    weights: list[Tensor],
    matrices: list[Tensor],
    layout: list[int],
    dtype: torch.dtype,
    needed: list[bool],
) -> tuple[list[Tensor], list[Tensor]]:
    targets = empty_targets(weights, matrices, layout, dtype)
    if not any(isinstance(size, torch.SymInt) for tensor in (*weights, *matrices) for size in tensor.shape):
        return targets, empty_saved(namespace, weights, matrices, layout, dtype, needed)
    # Of any size: what is saved follows from comparisons of costs, and every one would be a guard of the graph.
    context = torch.library.get_ctx()
    formats = saved_formats(namespace, weights, matrices, layout, dtype, needed)
    return targets, [weights[0].new_empty(context.new_dynamic_size(), dtype=each) for each in formats]


def _fake_backward(
    grads: list[Tensor],
    weights: list[Tensor],
    matrices: list[Tensor],
    layout: list[int],
    saved: list[Tensor],
    needed: list[bool],
) -> list[Tensor]:
    inputs = zip([*weights, *matrices], needed, strict=True)
    return [tensor.new_empty(tensor.shape) for tensor, wanted in inputs if wanted]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], list[Tensor]]) -> None:
    weights, matrices, ctx.layout, _, ctx.needed = inputs
    targets, saved = output
    ctx.count = len(weights)
    ctx.shapes = [target.shape for target in targets]
    ctx.mark_non_differentiable(*saved)
    # Else autograd makes zeros of the size of what is saved.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*weights, *matrices, *saved)


def _backward(op: OpOverload, ctx: Any, grads: list[Tensor | None], _: list[None]) -> tuple[Any, ...]:
    of_weights, of_matrices = ctx.needs_input_grad[:2]
    needed = [*of_weights, *of_matrices]
    nothing: list[None] | None = None if ctx.needed else []
    like = next((grad for grad in grads if grad is not None), None)
    if like is None:
        return [None] * len(of_weights), [None] * len(of_matrices), None, None, nothing
    given = [
        like.new_zeros(()).expand(shape) if grad is None else grad
        for grad, shape in zip(grads, ctx.shapes, strict=True)
    ]
    check_batched("the gradient of expand", given)
    inputs, saved = list(ctx.saved_tensors[: len(needed)]), list(ctx.saved_tensors[len(needed) :])
    if list(ctx.needed) != needed:
        # What was saved lies in the order of the work that other gradients would have had.
        saved = []
    found = iter(op(given, inputs[: ctx.count], inputs[ctx.count :], ctx.layout, saved, needed))
    totals = [next(found) if wanted else None for wanted in needed]
    return totals[: ctx.count], totals[ctx.count :], None, None, nothing


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """For second derivatives there is nothing to keep."""


def _refuse(ctx: Any, *_: Any) -> None:
    raise GrowthError(
        "expand has no second derivatives; call backward() without create_graph, or compose it of torch ops"
    )


def register(library: torch.library.Library) -> None:
    """Register for one library; before any of its ops is called."""
    ns = library.ns
    for name in ("expand_", "mix_", "inner_products_", "products_"):
        torch.library.register_fake(f"{ns}::{name}", fake_in_place, lib=library)
    torch.library.register_fake(f"{ns}::expand", partial(_fake_expand, ns), lib=library)
    torch.library.register_fake(f"{ns}::expand_backward", _fake_backward, lib=library)
    backward = partial(_backward, getattr(torch.ops, ns).expand_backward.default)
    torch.library.register_autograd(f"{ns}::expand", backward, setup_context=_setup, lib=library)
    torch.library.register_autograd(f"{ns}::expand_backward", _refuse, setup_context=_keep_nothing, lib=library)
