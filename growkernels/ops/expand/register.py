"""The schemas of `expand` and its parts, with their fake kernels and gradients, which are the same for every backend."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

from growkernels.errors import GrowthError
from growkernels.ops.expand.packing import empty_targets
from growkernels.ops.expand.saved import empty_saved, saved_formats
from growkernels.ops.fakes import fake_in_place
from growkernels.ops.transforms import check_batched

#: `layout` packs, for each stack in the order of `weights`: number of its weights, then where `b`, `a` and `depth` are in
#: `matrices` (-1: none), structured (0 or 1). `needed` asks for gradients of `weights`, then of `matrices`. In `expand` it says
#: which there will be ([]: none): for those, and no others, `expand_backward` may be given what it `saved`; it takes [] as
#: well, and then works more. `products_` has as many pairs of `left` and `right` for every one of `outs`, the first ones for
#: the first.
SCHEMAS = (
    "expand_(Tensor(a!)[] outs, Tensor[] weights, Tensor[] matrices, int[] layout) -> ()",
    (
        "expand(Tensor[] weights, Tensor[] matrices, int[] layout, ScalarType dtype, bool[] needed)"
        " -> (Tensor[] targets, Tensor[] saved)"
    ),
    (
        "expand_backward(Tensor[] grads, Tensor[] weights, Tensor[] matrices, int[] layout, Tensor[] saved, bool[] needed)"
        " -> Tensor[]"
    ),
    "mix_(Tensor(a!)[] outs, Tensor[] sources, Tensor coefficients) -> ()",
    "inner_products_(Tensor(a!) out, Tensor[] left, Tensor[] right) -> ()",
    "products_(Tensor(a!)[] outs, Tensor[] left, Tensor[] right, bool add) -> ()",
)


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
