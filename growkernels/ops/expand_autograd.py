"""Fake kernels and gradients of `expand` and its parts, the same for every backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops.expand_layout import empty_targets
from growkernels.ops.transforms import check_batched


def _fake_nothing(*_: Any) -> None:
    """In-place ops return nothing."""


def _fake_backward(
    grads: list[Tensor], weights: list[Tensor], matrices: list[Tensor], layout: list[int], needed: list[bool]
) -> list[Tensor]:
    inputs = zip([*weights, *matrices], needed, strict=True)
    return [tensor.new_empty(tensor.shape) for tensor, wanted in inputs if wanted]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    weights, matrices, ctx.layout, _ = inputs
    ctx.weights = len(weights)
    ctx.save_for_backward(*weights, *matrices)


def _backward(op: OpOverload, ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    inputs = list(ctx.saved_tensors)
    weights, matrices = inputs[: ctx.weights], inputs[ctx.weights :]
    check_batched("the gradient of expand", grads)
    needed = [*ctx.needs_input_grad[0], *ctx.needs_input_grad[1]]
    found = iter(op(grads, weights, matrices, ctx.layout, needed))
    totals = [next(found) if wanted else None for wanted in needed]
    return totals[: ctx.weights], totals[ctx.weights :], None, None


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
    torch.library.register_fake(f"{ns}::expand", empty_targets, lib=library)
    torch.library.register_fake(f"{ns}::expand_backward", _fake_backward, lib=library)
    backward = partial(_backward, getattr(torch.ops, ns).expand_backward.default)
    torch.library.register_autograd(f"{ns}::expand", backward, setup_context=_setup, lib=library)
    torch.library.register_autograd(f"{ns}::expand_backward", _refuse, setup_context=_keep_nothing, lib=library)
