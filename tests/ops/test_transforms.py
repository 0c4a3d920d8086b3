"""Transforms of functions: those that the ops follow give what they give without, others are refused and never ignored."""

from __future__ import annotations

from collections.abc import Callable
from timeit import timeit

import pytest
import torch
from torch import Tensor, func
from torch.autograd import forward_ad

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.ops import Expansion, Tile
from growkernels.ops.transforms import check_transforms
from tests.ops.tools import assert_same_bits, data

WEIGHTS, A, DEPTH = data((2, 4, 6)), data((12, 6)), data((5, 2))
X = data((8, 4), seed=3)
# Made here: torch.vmap refuses random numbers.
SIDE, STACK, PAIR = data((5, 4)), data((4, 3, 2)), data((1, 8, 2))
#: Functions of a matrix [8, 4] by the ops, each with its op's name.
GROW: dict[str, Callable[[Tensor], Tensor]] = {
    "expand": lambda x: ops.expand(WEIGHTS, x, A, DEPTH),
    "expand of weights": lambda x: ops.expand([x, x * 2], None, None, DEPTH),
    "expand of a stack": lambda x: ops.expand(x, SIDE, None),
    "expand of depth": lambda x: ops.expand(STACK, None, None, x),
    "expand many": lambda x: ops.expand_many([Expansion(WEIGHTS), Expansion(WEIGHTS, x)])[1],
    "tile": lambda x: ops.tile(x, 2, 2),
    "tile of a large weight": lambda x: ops.tile(x.repeat(90, 100), 2, 2),
    "replicate": lambda x: ops.replicate([A, x], [1, 0])[0],
}


def written(write: Callable[[Tensor, Tensor], None], rows: int, columns: int) -> Callable[[Tensor], Tensor]:
    def grow(x: Tensor) -> Tensor:
        out = torch.empty(rows, columns)
        write(out, x)
        return out

    return grow


#: The same by in-place ops.
WRITE = {
    "expand_": written(lambda out, x: ops.expand_([out], WEIGHTS[:1], x, None), 8, 6),
    "tile_": written(lambda out, x: ops.tile_(out, x, 2, 2), 16, 8),
    "tile_rules_": written(lambda out, x: ops.tile_rules_([out], [x], [Tile.copies((8, 4), (2, 1))]), 16, 4),
    "replicate_": written(lambda out, x: ops.replicate_([out], [x], [0]), 8, 4),
}
TRANSFORMS = {
    "jvp": lambda f: func.jvp(f, (X,), (torch.ones_like(X),)),
    "jacfwd": lambda f: func.jacfwd(f)(X),
    "grad": lambda f: func.grad(lambda x: f(x).sum())(X),
    "vjp": lambda f: func.vjp(f, X),
    "jacrev": lambda f: func.jacrev(f)(X),
    "hessian": lambda f: func.hessian(lambda x: f(x).sum())(X),
    "vmap": lambda f: torch.vmap(f)(torch.stack([X, X * 2])),
    "vmap of grad": lambda f: torch.vmap(func.grad(lambda x: f(x).sum()))(torch.stack([X, X * 2])),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("op", [*GROW, *WRITE])
def test_transforms_of_functions_are_refused(op: str, transform: str) -> None:
    message = (
        rf"{op.split()[0]} was called under torch\.(func|vmap).*no rule for; (gradients come from|call it for each)"
    )
    with pytest.raises(GrowthError, match=message):
        TRANSFORMS[transform]({**GROW, **WRITE}[op])


@pytest.mark.parametrize("op", [*GROW, *WRITE])
def test_forward_mode_is_refused(op: str) -> None:
    with forward_ad.dual_level(), pytest.raises(GrowthError, match=r"forward-mode.*gradients come from"):
        {**GROW, **WRITE}[op](forward_ad.make_dual(X, torch.ones_like(X)))


def test_outs_and_noise_are_refused_too() -> None:
    def noise(out: Tensor) -> Tensor:
        ops.normal_(out, 1, 0)
        return out

    def mean_square(x: Tensor) -> Tensor:
        return ops.mean_square([x])

    def into(out: Tensor) -> None:
        ops.expand_([out[:, :2]], PAIR, None, None)

    for function in (noise, mean_square, into):
        with pytest.raises(GrowthError, match=r"was called under torch\.vmap"):
            torch.vmap(function)(torch.stack([X, X]))
    with forward_ad.dual_level(), pytest.raises(GrowthError, match="expand_ was called under forward-mode"):
        into(forward_ad.make_dual(X.clone(), torch.ones_like(X)))


@pytest.mark.parametrize("op", ["expand", "tile", "replicate"])
def test_forward_mode_is_refused_in_compiled_functions(op: str) -> None:
    compiled = torch.compile(lambda x: func.jvp(GROW[op], (x,), (torch.ones_like(x),)), backend="aot_eager")
    with pytest.raises(GrowthError, match=f"{op} was called under .*jvp"):
        compiled(X)
    with forward_ad.dual_level(), pytest.raises(torch._dynamo.exc.Unsupported, match="forward-mode"):
        torch.compile(lambda x: ops.tile(x, 2, 2) + 1, backend="aot_eager", fullgraph=True)(X)


def test_batched_gradients_are_refused() -> None:
    x = X.clone().requires_grad_()
    grown = GROW["expand"](x)
    with pytest.raises(GrowthError, match=r"the gradient of expand was called under torch\.vmap.*is_grads_batched"):
        torch.autograd.grad(grown, x, torch.ones(2, *grown.shape), is_grads_batched=True)


@pytest.mark.parametrize("op", GROW)
def test_constants_of_a_transformed_function_are_none_of_its_business(op: str) -> None:
    """What no transform follows has no derivative to lose."""
    expected = GROW[op](X)
    value, tangent = func.jvp(lambda s: GROW[op](X) * s, (torch.tensor(2.0),), (torch.tensor(3.0),))
    assert_same_bits(value, expected * 2)
    assert_same_bits(tangent, expected * 3)
    assert_same_bits(func.grad(lambda s: (GROW[op](X) * s).sum())(torch.tensor(2.0)), expected.sum())
    batch = torch.vmap(lambda s: GROW[op](X) * s)(torch.tensor([2.0, 4.0]))
    assert_same_bits(batch, torch.stack([expected * 2, expected * 4]))
    with forward_ad.dual_level():
        assert_same_bits(GROW[op](X), expected)


@pytest.mark.parametrize("op", GROW)
def test_functionalization_and_functional_calls_pass(op: str) -> None:
    expected = GROW[op](X)
    assert_same_bits(func.functionalize(GROW[op])(X), expected)

    class Grown(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(torch.full_like(X, torch.nan))

        def forward(self) -> Tensor:
            return GROW[op](self.x)

    x, y = X.clone().requires_grad_(), X.clone().requires_grad_()
    grown = func.functional_call(Grown(), {"x": x}, ())
    assert_same_bits(grown.detach(), expected)
    upstream = data(tuple(grown.shape), seed=4)
    assert_same_bits(*torch.autograd.grad(grown, x, upstream), *torch.autograd.grad(GROW[op](y), y, upstream))


def test_a_call_outside_of_transforms_pays_less_than_a_microsecond() -> None:
    tensors = [X] * 300
    assert min(timeit(lambda: check_transforms("tile", tensors), number=1000) for _ in range(20)) < 1e-3
