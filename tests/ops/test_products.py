"""`products_` by torch, and which of two ways a GPU takes."""

from __future__ import annotations

import pytest
import torch

from growkernels import devices
from growkernels.ops.expand import triton
from growkernels.ops.expand.products import goes_together, products_, sums_in_float32
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
    assert goes_together((768, 512), 132)  # 24 tiles of 132 processors
    assert goes_together((128 * 66, 128), 132)
    assert not goes_together((128 * 67, 128), 132)
    assert not goes_together((8192, 8192), 132)


def test_the_way_of_a_product_follows_its_own_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is in the call; every out with the pairs of its own."""
    taken: dict[int, tuple[str, list[int]]] = {}

    def take(way: str):
        def products(outs, left, right, add) -> None:
            terms = len(left) // len(outs)
            for number, out in enumerate(outs):
                assert [id(one) for one in left[number * terms :][:terms]] == [id(one) for one in pairs[id(out)]]
                taken[id(out)] = way

        return products

    monkeypatch.setattr(devices, "processors", lambda device: 4)
    monkeypatch.setattr(triton, "products_", take("together"))
    monkeypatch.setattr(triton.products, "products_", take("one by one"))
    small, large = [(torch.empty(128, 256), "together")], [(torch.empty(256, 257), "one by one")]
    for dtype in (torch.bfloat16, torch.float16):
        for shapes in (small, large, small + large, large + small + small, small * 4):
            outs = [torch.empty_like(one, dtype=dtype) for one, _ in shapes]
            left = [torch.empty(len(out), 8, dtype=dtype) for out in outs for _ in range(3)]
            right = [torch.empty(8, out.shape[1], dtype=dtype) for out in outs for _ in range(3)]
            pairs = {id(out): left[3 * number : 3 * number + 3] for number, out in enumerate(outs)}
            taken.clear()
            triton.fastest_products_(outs, left, right, False)
            assert [taken[id(out)] for out in outs] == [way for _, way in shapes]
    out, left = torch.empty(2, 2), torch.empty(2, 2)
    pairs = {id(out): [left]}
    triton.fastest_products_([out], [left], [left], False)
    assert taken[id(out)] == "one by one"


def test_sums_are_not_cut_to_sixteen_bits_on_a_gpu() -> None:
    flags = torch.backends.cuda.matmul
    before = flags.allow_bf16_reduced_precision_reduction, flags.allow_fp16_reduced_precision_reduction
    with sums_in_float32(torch.device("cuda")):
        assert not flags.allow_bf16_reduced_precision_reduction
        assert not flags.allow_fp16_reduced_precision_reduction
    assert before == (flags.allow_bf16_reduced_precision_reduction, flags.allow_fp16_reduced_precision_reduction)
