"""`products_` by torch, and which of two ways a GPU takes."""

from __future__ import annotations

import pytest
import torch

from growkernels import devices
from growkernels.ops.expand import triton
from growkernels.ops.expand.products import fill_together, products_
from tests.ops.tools import assert_same_bits, data, laid_out, poisoned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("terms", [1, 3])
def test_whole_numbers_are_exact(terms: int, add: bool, dtype: torch.dtype) -> None:
    """Whatever the dtype of the out: sums are rounded once, where stored."""
    left = [laid_out(data((5, 7), seed=k).mul(4).round().to(dtype), "transposed") for k in range(2 * terms)]
    right = [data((7, 3), seed=9 + k).mul(4).round().to(dtype) for k in range(2 * terms)]
    for target in (torch.bfloat16, torch.float32, torch.float64):
        outs = [data((5, 3), seed=k).mul(64).round().to(target) if add else poisoned((5, 3), target) for k in range(2)]
        expected = [
            sum((first.double() @ second.double() for first, second in list(zip(left, right, strict=True))[g::2]), 0)
            for g in range(2)
        ]
        expected = [e + out.double() if add else e for e, out in zip(expected, outs, strict=True)]
        pairs = [list(zip(left, right, strict=True))[g::2] for g in range(2)]
        products_(outs, [x for group in pairs for x, _ in group], [y for group in pairs for _, y in group], add)
        for out, value in zip(outs, expected, strict=True):
            assert_same_bits(out, value.to(target))


def test_together_where_one_alone_leaves_a_gpu_idle() -> None:
    layer = (768, 512)  # 24 tiles of 132 processors
    assert not fill_together([layer], 132)
    assert fill_together([layer] * 12, 132)  # 3 rounds instead of 12
    assert not fill_together([(8192, 8192)] * 12, 132)
    # 198 tiles take two rounds, three of two such products together instead of four
    assert fill_together([(128 * 198, 128)] * 2, 132)


def test_the_way_follows_the_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(devices, "processors", lambda device: 4)
    monkeypatch.setattr(triton, "products_", lambda *_: taken.append("together"))
    monkeypatch.setattr(triton.products, "products_", lambda *_: taken.append("one by one"))
    for dtype, count in ((torch.bfloat16, 4), (torch.bfloat16, 1), (torch.float32, 4)):
        tensors = [data((128, 128), dtype) for _ in range(count)]
        triton.fastest_products_(tensors, tensors, tensors, False)
    assert taken == ["together", "one by one", "one by one"]
