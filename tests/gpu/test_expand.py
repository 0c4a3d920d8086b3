"""`expand` on a GPU: exact where numbers are whole, as on the CPU; its gradients too, and the products that it is made of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from growkernels import ops
from tests.gpu.device import BACKENDS, DEVICE, NAMESPACES, REHEARSAL
from tests.ops.tensors import POISON, assert_same_bits, data, laid_out, poisoned

#: Source and target layers, source shape, rows and columns added.
SIZES = [((1, 1), (1, 1), (1, 2)), ((3, 5), (17, 30), (9, 20)), ((2, 2), (130, 70), (70, 130))]


def whole(shape: tuple[int, ...], seed: int, largest: int = 3) -> Tensor:
    """One of -`largest` to `largest` but zero, so that sums are exact in float32 in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, largest + 1, shape, generator=generator).mul(
        torch.randint(0, 2, shape, generator=generator).mul(2).sub(1)
    )


def results(
    device: torch.device, dtype: torch.dtype, structured: bool, size: tuple, backend: str | None
) -> list[Tensor]:
    """The grown layers by both forms, and the gradients of all that went in."""
    (layers, grown), (rows, cols), (more_rows, more_cols) = size
    b_rows, a_rows = (more_rows, more_cols) if structured else (rows + more_rows, cols + more_cols)
    shapes = (layers, rows, cols), (b_rows, rows), (a_rows, cols), (grown, layers)
    # Mixes and first products in bfloat16 are then below 256, and so exact.
    largest = 1 if dtype == torch.bfloat16 else 3
    leaves = [whole(shape, seed, largest).to(device, dtype).requires_grad_() for seed, shape in enumerate(shapes)]
    target = ops.expand(*leaves, structured, torch.float32, backend=backend)
    target.backward(whole(tuple(target.shape), 9, largest).to(device, torch.float32))
    out = torch.full_like(target, POISON)
    ops.expand_(out, *(leaf.detach() for leaf in leaves), structured, backend=backend)
    return [target.detach(), out, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_whole_numbers_grow_exactly(size: tuple, dtype: torch.dtype, structured: bool, backend: str) -> None:
    expected = results(torch.device("cpu"), dtype, structured, size, "eager")
    for actual, right in zip(results(DEVICE, dtype, structured, size, backend), expected, strict=True):
        assert_same_bits(actual.cpu(), right)


#: Sums of how many products of which rows, columns and inner size: layers in whole tiles, a gradient, parts of tiles, memory
#: that is not in whole vectors, and more tiles than programs.
PRODUCTS = [(1, 512, 768, 192), (6, 768, 512, 128), (2, 130, 264, 72), (2, 37, 131, 65), (1, 2304, 2100, 128)]
FORMATS = torch.float32, torch.bfloat16, torch.float16


def parts(backend: str) -> Any:
    return getattr(torch.ops, NAMESPACES[backend])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [size for size in PRODUCTS if not REHEARSAL or max(size) < 140], ids=str)
def test_products_of_whole_numbers_are_exact(size: tuple[int, ...], backend: str) -> None:
    """Of every dtype into every other, each side in either order in memory, written and added; and so each time."""
    pairs, rows, columns, inner = size
    first = [whole((rows, inner), k) for k in range(pairs)]
    second = [whole((inner, columns), 50 + k) for k in range(pairs)]
    total = sum(a.double() @ b.double() for a, b in zip(first, second, strict=True))
    layouts = "contiguous", "transposed"
    formats = FORMATS[1:2] if REHEARSAL else FORMATS
    for dtype, target, of_left, of_right in itertools.product(formats, FORMATS, layouts, layouts):
        left = [laid_out(a.to(DEVICE, dtype), of_left) for a in first] * 2
        right = [laid_out(b.to(DEVICE, dtype), of_right) for b in second] * 2
        for add in (False, True):
            outs = [torch.full((rows, columns), 5.0, device=DEVICE, dtype=target), None]
            outs[1] = laid_out(outs[0].clone(), of_left)
            parts(backend).products_(outs, left, right, add)
            for out in outs:
                assert_same_bits(out.cpu(), (total + 5 * add).to(target))


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_depend_on_nothing_else_in_a_call(backend: str) -> None:
    for dtype in FORMATS:
        sizes = [(256, 128, 192), (128, 256, 64), (130, 70, 33), (256, 128, 192)]
        left, right = (
            [data(s, dtype, k).to(DEVICE) for k, s in enumerate(shapes)]
            for shapes in ([(m, k) for m, _, k in sizes], [(k, n) for _, n, k in sizes])
        )
        outs = [poisoned((m, n), torch.float32, device=DEVICE) for m, n, _ in sizes]
        parts(backend).products_(outs, left, right, False)
        for out, a, b in zip(outs, left, right, strict=True):
            alone = torch.empty_like(out)
            parts(backend).products_([alone], [a], [b], False)
            assert_same_bits(alone, out)
            # Each term is in as many sums as there are terms at most; tensor cores cut off what lies beyond the last place of
            # the largest of those that they add up at once, and what lies beyond that of their sum.
            value, most = a.double() @ b.double(), a.double().abs() @ b.double().abs()
            roundings = 2 * (a.shape[1] + 1) * torch.finfo(torch.float32).eps
            assert ((out - value).abs() <= roundings / (1 - roundings) * most).all()
