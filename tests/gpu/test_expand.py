"""`expand` on a GPU: exact where numbers are whole, as on the CPU; its gradients too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from growkernels import ops
from tests.gpu.device import BACKENDS, DEVICE
from tests.ops.tensors import POISON, assert_same_bits

#: Source and target layers, source shape, rows and columns added.
SIZES = [((1, 1), (1, 1), (1, 2)), ((3, 5), (17, 30), (9, 20)), ((2, 2), (130, 70), (70, 130))]


def whole(shape: tuple[int, ...], seed: int) -> Tensor:
    """One of -3 to 3 but zero, so that sums are exact in float32 in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 4, shape, generator=generator).mul(
        torch.randint(0, 2, shape, generator=generator).mul(2).sub(1)
    )


def results(
    device: torch.device, dtype: torch.dtype, structured: bool, size: tuple, backend: str | None
) -> list[Tensor]:
    """The grown layers by both forms, and the gradients of all that went in."""
    (layers, grown), (rows, cols), (more_rows, more_cols) = size
    b_rows, a_rows = (more_rows, more_cols) if structured else (rows + more_rows, cols + more_cols)
    shapes = (layers, rows, cols), (b_rows, rows), (a_rows, cols), (grown, layers)
    leaves = [whole(shape, seed).to(device, dtype).requires_grad_() for seed, shape in enumerate(shapes)]
    target = ops.expand(*leaves, structured, torch.float32, backend=backend)
    target.backward(whole(tuple(target.shape), 9).to(device, torch.float32))
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
