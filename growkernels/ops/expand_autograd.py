"""Fake kernels and gradients of `expand` and its parts, the same for every backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops.expand_layout import empty_targets
from growkernels.ops.expand_saved import empty_saved
from growkernels.ops.transforms import check_batched


def _fake_nothing(*_: Any) -> None:
    """In-place ops return nothing."""


def _fake_expand(
    namespace: str,
    weights: list[Tensor],
    matrices: list[Tensor],
    layout: list[int],
    dtype: torch.dtype,
    needed: list[bool],
) -> tuple[list[Tensor], list[Tensor]]:
    saved = empty_saved(namespace, weights, matrices, layout, dtype, needed)
    return empty_targets(weights, matrices, layout, dtype), saved


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
    weights, matrices, ctx.layout, _, _ = inputs
    targets, saved = output
    ctx.weights, ctx.inputs = len(weights), len(weights) + len(matrices)
    ctx.shapes = [target.shape for target in targets]
    ctx.mark_non_differentiable(*saved)
    # Else autograd makes zeros of the size of what is saved.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*weights, *matrices, *saved)


def _backward(op: OpOverload, ctx: Any, grads: list[Tensor | None], _: list[None]) -> tuple[Any, ...]:
    tensors = list(ctx.saved_tensors)
    weights, matrices, saved = tensors[: ctx.weights], tensors[ctx.weights : ctx.inputs], tensors[ctx.inputs :]
    like = next((grad for grad in grads if grad is not None), None)
    if like is None:
        return [None] * len(weights), [None] * len(matrices), None, None, None
    grads = [
        like.new_zeros(()).expand(shape) if grad is None else grad
        for grad, shape in zip(grads, ctx.shapes, strict=True)
    ]
    check_batched("the gradient of expand", grads)
    needed = [*ctx.needs_input_grad[0], *ctx.needs_input_grad[1]]
    found = iter(op(grads, weights, matrices, ctx.layout, saved, needed))
    totals = [next(found) if wanted else None for wanted in needed]
    return totals[: ctx.weights], totals[ctx.weights :], None, None, None


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
        torch.library.register_fake(f"{ns}::{name}", _fake_nothing, lib=library)
    torch.library.register_fake(f"{ns}::expand", partial(_fake_expand, ns), lib=library)
    torch.library.register_fake(f"{ns}::expand_backward", _fake_backward, lib=library)
    backward = partial(_backward, getattr(torch.ops, ns).expand_backward.default)
    torch.library.register_autograd(f"{ns}::expand", backward, setup_context=_setup, lib=library)
    torch.library.register_autograd(f"{ns}::expand_backward", _refuse, setup_context=_keep_nothing, lib=library)
