"""The CUDA kernels `mix_` and `inner_products_`, every thread of a GPU played by the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests import emulated
from tests.ops.mixes import check_inner_products, check_mix
from tests.ops.tools import (
    DTYPES,
    LAYOUTS,
    POISON,
    Drawn,
    assert_same_bits,
    data,
    laid_out,
    poisoned,
    with_special,
)

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.skipif(bool(emulated.MISSING), reason=emulated.MISSING),
]
EMULATED = torch.ops.growkernels_emulated
VECTORS, ELEMENTS = "mix of vectors", "mix of elements"
PAIRS_OF_VECTORS, PAIRS_OF_ELEMENTS = "inner_products of vectors", "inner_products of elements"
NARROW = DTYPES[:3]
#: Nothing, one element, whole vectors and ragged rows, more than a block's threads take at once, three axes.
SHAPES = ((0, 3), (1, 1), (7, 11), (16, 24), (33, 129), (1100,), (6, 256), (2, 3, 5), (3, 40, 24))


def mix(outs: list[Tensor], sources: list[Tensor], coefficients: Tensor) -> tuple[list[str], int]:
    """Launches and bytes read of a mix with the bits of the reference, each byte written once."""
    emulated.traffic()
    check_mix(outs, sources, coefficients, EMULATED)
    traffic = emulated.traffic()
    assert traffic["written"] == sum(out.nbytes for out in outs)
    return traffic["launches"], traffic["read"]


def inner_products(left: list[Tensor], right: list[Tensor]) -> tuple[Tensor, list[str]]:
    """Inner products within rounding, and launches.

    Tiles are of 8 layers from the longer list and 4 from the other; layers are read once for each of their tiles.
    """
    out = data((len(left), len(right)), torch.float64, 99)
    emulated.traffic()
    check_inner_products(out, left, right, EMULATED)
    traffic = emulated.traffic()
    longer, other = (left, right) if len(left) >= len(right) else (right, left)
    tiles = -(-len(other) // 4), -(-len(longer) // 8)
    assert traffic["read"] == sum(
        layer.nbytes * again for side, again in zip((longer, other), tiles, strict=True) for layer in side
    )
    assert not traffic["written"]
    return out, traffic["launches"]


def layers(count: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    return [data(shape, dtype, seed + k) for k in range(count)]


def drawn_layers(drawn: Drawn, shape: tuple[int, ...], count: int, seed: int) -> list[Tensor]:
    """Of one dtype and layout, as layers mostly are, or each of its own."""
    alike, dtype, layout = drawn.pick((True, False)), drawn.pick(DTYPES), drawn.pick(LAYOUTS)
    return [
        laid_out(
            data(shape, dtype if alike else drawn.pick(DTYPES), seed + k), layout if alike else drawn.pick(LAYOUTS)
        )
        for k in range(count)
    ]


def blocks(count: int, shape: tuple[int, int], columns: slice, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """Columns of bigger matrices."""
    return [matrix[:, columns] for matrix in layers(count, shape, dtype, seed)]


@given(st.data())
def test_mixes_have_the_bits_of_the_reference(case: st.DataObject) -> None:
    drawn = Drawn(case.draw)
    shape = drawn.pick(SHAPES)
    sources = drawn_layers(drawn, shape, drawn.pick((1, 2, 3, 5, 9)), 0)
    if drawn.pick((True, False)):
        sources[0] = with_special(sources[0])
    rows = drawn.pick((1, 2, 4, 5, 9, 18))
    coefficients = laid_out(data((rows, len(sources)), drawn.pick(DTYPES), 50), drawn.pick(LAYOUTS))
    alike, dtype, layout = drawn.pick((True, False)), drawn.pick(DTYPES), drawn.pick(LAYOUTS)
    outs = [
        poisoned(shape, dtype if alike else drawn.pick(DTYPES), layout if alike else drawn.pick(LAYOUTS))
        for _ in range(rows)
    ]
    mix(outs, sources, coefficients)
    for out in outs:
        if out._base is not None:
            out.fill_(POISON)
            assert (out._base == out.new_full((), POISON)).all(), "entries beside an output changed"


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_every_pair_of_dtypes(source: torch.dtype, target: torch.dtype) -> None:
    """Several tasks of every block; sources are read once for as many sums as registers hold."""
    sources = [with_special(layer) for layer in layers(3, (5, 1024), source)]
    narrow = torch.float64 not in (source, target)
    at_once = 8 if not narrow or (source.itemsize == target.itemsize == 2) else 16
    for rows in (3, 8, 17):
        outs = [poisoned((5, 1024), target) for _ in range(rows)]
        launches, read = mix(outs, sources, data((rows, 3), seed=5))
        assert launches == [VECTORS if narrow else ELEMENTS]
        assert read == -(-rows // at_once) * sum(layer.nbytes for layer in sources)


def test_dtypes_may_differ_from_layer_to_layer() -> None:
    sources = [data((9, 64), NARROW[k % 3], k) for k in range(7)]
    outs = [poisoned((9, 64), NARROW[k % 3]) for k in range(5)]
    launches, read = mix(outs, sources, data((5, 7), torch.float16))
    assert launches == [VECTORS] and read == sum(layer.nbytes for layer in sources)


def test_coefficients_that_shared_memory_does_not_hold() -> None:
    for rows, count in ((1, 65), (20, 130), (40, 3)):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            sources, outs = layers(count, (2, 64), dtype), [poisoned((2, 64), dtype) for _ in range(rows)]
            mix(outs, sources, data((count, rows), dtype, 500).t())


def test_blocks_of_bigger_matrices_go_by_vectors() -> None:
    """Both the rows kept and the rows learned of a grown matrix, from sources that are dense."""
    for dtype, first, second in ((torch.float32, 24, 40), (torch.bfloat16, 48, 16)):
        for columns in (slice(first), slice(first, None)):
            outs = [torch.full((21, first + second), POISON, dtype=dtype) for _ in range(3)]
            parts = [out[:, columns] for out in outs]
            sources = layers(4, tuple(parts[0].shape), dtype)
            launches, read = mix(parts, sources, data((3, 4)))
            assert launches == [VECTORS] and read == sum(layer.nbytes for layer in sources)
            for out, part in zip(outs, parts, strict=True):
                part.fill_(POISON)
                assert (out == out.new_full((), POISON)).all()
            # The other way round, with columns of bigger sources.
            dense = [poisoned(tuple(parts[0].shape), torch.float32) for _ in range(3)]
            assert mix(dense, blocks(4, (21, first + second), columns, dtype), data((3, 4)))[0] == [VECTORS]


def test_ends_that_are_no_whole_vectors_go_by_elements() -> None:
    for dtype in (torch.float32, torch.float16):
        for first, last, launches in ((1, 33, 3), (3, 40, 2), (8, 37, 2), (8, 40, 1)):
            columns = slice(first, last)
            outs = [torch.full((13, 40), POISON, dtype=dtype) for _ in range(2)]
            sources = blocks(3, (13, 40), columns, dtype)
            found, read = mix([out[:, columns] for out in outs], sources, data((2, 3)))
            assert found == [VECTORS, ELEMENTS, ELEMENTS][:launches]
            assert read == sum(layer.nbytes for layer in sources)
            for out in outs:
                out[:, columns].fill_(POISON)
                assert (out == out.new_full((), POISON)).all()
    # Where layers are not equally aligned, elements all the way.
    outs = [poisoned((13, 32), torch.float32)]
    assert mix(outs, blocks(2, (13, 40), slice(1, 33), torch.float32), data((1, 2)))[0] == [ELEMENTS]


def test_transposed_layers_go_by_vectors() -> None:
    sources = [laid_out(layer, "transposed") for layer in layers(3, (40, 24))]
    outs = [poisoned((40, 24), torch.bfloat16, "transposed") for _ in range(2)]
    assert mix(outs, sources, data((2, 3)))[0] == [VECTORS]


@given(st.data())
@settings(max_examples=40)
def test_inner_products_are_within_rounding(case: st.DataObject) -> None:
    drawn = Drawn(case.draw)
    shape = drawn.pick((*SHAPES, (129, 160)))
    left, right = (drawn_layers(drawn, shape, drawn.pick((1, 2, 3, 5, 9, 17)), seed) for seed in (0, 50))
    out = laid_out(data((len(left), len(right)), torch.float64, 99), drawn.pick(LAYOUTS))
    check_inner_products(out, left, right, EMULATED)


@pytest.mark.parametrize("first", DTYPES)
@pytest.mark.parametrize("second", DTYPES)
def test_inner_products_of_every_pair_of_dtypes(first: torch.dtype, second: torch.dtype) -> None:
    """Of more layers than a tile has."""
    left, right = layers(9, (19, 128), first), layers(5, (19, 128), second, 20)
    _, launches = inner_products(left, right)
    assert launches == [PAIRS_OF_ELEMENTS if torch.float64 in (first, second) else PAIRS_OF_VECTORS]


@pytest.mark.parametrize("counts", [(1, 1), (1, 12), (12, 1), (16, 16), (17, 3), (3, 33)])
def test_inner_products_of_every_pair_in_several_units(counts: tuple[int, int]) -> None:
    left, right = (layers(count, (129, 80), torch.bfloat16, seed) for count, seed in zip(counts, (0, 40), strict=True))
    assert inner_products(left, right)[1] == [PAIRS_OF_VECTORS]


def test_inner_products_do_not_depend_on_where_layers_lie() -> None:
    left, right = layers(3, (65, 200)), layers(4, (65, 200), torch.bfloat16, 9)
    results = []
    for layout in ("contiguous", "contiguous", "offset", "sliced"):
        out, launches = inner_products([laid_out(t, layout) for t in left], [laid_out(t, layout) for t in right])
        assert launches == [PAIRS_OF_VECTORS if layout == "contiguous" else PAIRS_OF_ELEMENTS]
        results.append(out)
    for again in results[1:]:
        assert_same_bits(again, results[0])
    # Nor on which side is the longer one.
    turned = data((3, 4), torch.float64, 99).t().contiguous()
    EMULATED.inner_products_(turned, right, left)
    assert_same_bits(turned.t(), results[0])


def test_inner_products_of_blocks_of_bigger_matrices() -> None:
    for columns in (slice(48), slice(48, None)):
        left = blocks(3, (70, 128), columns, torch.bfloat16)
        right = layers(5, tuple(left[0].shape), torch.float32, 9)
        assert inner_products(left, right)[1] == [PAIRS_OF_VECTORS]


@pytest.mark.parametrize("dtype", DTYPES)
def test_inner_products_are_added_to_what_is_there(dtype: torch.dtype) -> None:
    """Whole numbers, whose sums are exact in any order."""
    generator = torch.Generator().manual_seed(3)
    left, right = ([torch.randint(1, 4, (9, 100), generator=generator).float() for _ in range(3)] for _ in range(2))
    out = laid_out(torch.full((3, 3), -5.0, dtype=dtype), "sliced")
    EMULATED.inner_products_(out, left, right)
    sums = torch.tensor([[float((x * y).sum()) for y in right] for x in left], dtype=torch.float64)
    assert_same_bits(out, (sums - 5).to(dtype))


def test_an_out_that_holds_a_coefficient_is_refused() -> None:
    memory = data((4, 6))
    for library in (EMULATED, torch.ops.growkernels):
        with pytest.raises(RuntimeError, match="out overlaps an input"):
            library.mix_([memory[:2]], layers(2, (2, 6)), memory[1:2, :2])
