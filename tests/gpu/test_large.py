"""Sizes at which indices, grids and tables reach their limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from growkernels import ops
from growkernels.ops import Noise, Tile, arithmetic
from growkernels.ops.noise import reference as noise_reference
from growkernels.ops.tile import reference as tile_reference
from tests.gpu.device import BACKENDS, DEVICE, REHEARSAL, examples
from tests.ops.rules import Seeded, rule
from tests.ops.tensors import DTYPES, assert_same_bits, data, poisoned

SIDE = 96 if REHEARSAL else 8192
#: Copies in the input, variant, noise.
GROWTHS = [
    (2, "symmetric", (None, None)),
    (2, "symmetric", (0.02, None)),
    (3, "diagonal", (0.02, None)),
    (2, "symmetric", (None, 10.0)),
]
#: A little more than 32-bit indices count.
BEYOND = 2**31 + 12_345


def normal_weights(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(1)
    return torch.empty(shape, dtype=dtype, device=DEVICE).normal_(0, 0.02, generator=generator)


@pytest.fixture(scope="module", params=[(d, *g) for d in (torch.float32, torch.bfloat16) for g in GROWTHS], ids=str)
def grown(request: pytest.FixtureRequest) -> tuple[Tensor, tuple, Tensor]:
    """A weight, arguments, and what the CPU kernels make of them."""
    dtype, n_in, variant, noise = request.param
    weight, arguments = normal_weights((SIDE, SIDE), dtype), (2, n_in, variant, *noise, 77)
    return weight, arguments, ops.tile(weight.cpu(), *arguments, backend="cpu").to(DEVICE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_matrices_have_the_bits_of_the_cpu(grown: tuple[Tensor, tuple, Tensor], backend: str) -> None:
    weight, arguments, expected = grown
    out = torch.full_like(expected, torch.nan)
    ops.tile_(out, weight, *arguments, backend=backend)
    assert_same_bits(out, expected)


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("std", [None, 0.02], ids=["clean", "noise"])
def test_tiles_of_more_than_2_31_elements(backend: str, std: float | None) -> None:
    side = 23_173
    weight = normal_weights((side, side), torch.bfloat16)
    out = torch.full((2 * side, 2 * side), torch.nan, dtype=torch.bfloat16, device=DEVICE)
    assert out.numel() > BEYOND
    ops.tile_(out, weight, 2, 2, noise_std=std, key=5, backend=backend)
    spec = Tile.copies((side, side), (2, 2), 1, Noise(std=std) if std else None, key=5)
    for top in (0, side - 1, 2**31 // (2 * side) - 1, 2 * side - 3):
        rows = range(top, top + 3)
        expected = tile_reference.tile_rule_slice(weight, spec, tuple(out.shape), rows, range(2 * side), torch.bfloat16)
        assert_same_bits(out[top : top + 3].cpu(), expected)
    # Every element: halves are exact in float32 and rounded once; the copies of noise add up to the weight's value.
    for top in range(0, side, 4096):
        part = weight[top : top + 4096].float()
        for block in (out[top : top + len(part)], out[side + top : side + top + len(part)]):
            left, right = block[:, :side].float(), block[:, side:].float()
            if std is None:
                assert left.equal((part / 2).bfloat16().float()) and right.equal(left)
            else:
                # Both are stored within half an ulp of the larger, and the sum was rounded in float32 before.
                bound = torch.finfo(torch.bfloat16).eps * torch.maximum(left.abs(), right.abs())
                assert ((left + right - part).abs() <= bound).all()


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("backend", BACKENDS)
def test_blocks_of_more_than_2_31_elements(backend: str) -> None:
    block = normal_weights((BEYOND,), torch.bfloat16)
    out = torch.full_like(block, torch.nan)
    ops.replicate_([out], [block], [0], backend=backend)
    assert out.equal(block)
    out.fill_(torch.nan)
    ops.replicate_([out], [block], [0], 1.0, 1.0, 0.5, 3, backend=backend)
    assert_normals(out, noise_reference.COPY_FIELD, 0, 0.5)
    assert_same_bits(ops.mean_square([block], [3.0], backend=backend).cpu(), ops.mean_square([block.cpu()], [3.0]))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("backend", BACKENDS)
def test_more_than_2_31_normals(backend: str) -> None:
    out = torch.full((BEYOND,), torch.nan, dtype=torch.bfloat16, device=DEVICE)
    ops.normal_(out, 3, 7, 2**33 - 5, backend=backend)
    assert_normals(out, 7, 2**33 - 5, 1.0)


def assert_normals(out: Tensor, field: int, start: int, std: float) -> None:
    """Every element is written; those at both ends and around 2^31 are `std * z(3, field, start + index)`."""
    assert not out.isnan().any()
    count = 10_000
    for first in (0, 2**31 - count // 2, len(out) - count):
        z = noise_reference.z(3, field, start + first + torch.arange(count).numpy())
        assert_same_bits(out[first : first + count].cpu(), arithmetic.store(z * z.dtype.type(std), out.dtype))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_lie_more_than_2_31_elements_apart(backend: str) -> None:
    memory = torch.full((5 * 2**29,), torch.nan, dtype=torch.bfloat16, device=DEVICE)
    source, target = (memory[start:].as_strided((5, 77), (2**29, 1)) for start in (0, 10_000))
    values = data((5, 77), torch.bfloat16)
    source.copy_(values)
    ops.tile_(target, source, 1, 1, backend=backend)
    assert_same_bits(target.cpu(), values)
    target.fill_(torch.nan)
    ops.replicate_([target], [source], [0], backend=backend)
    assert_same_bits(target.cpu(), values)
    assert int((~memory.isnan()).sum()) == 2 * values.numel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_lists_of_a_thousand_tensors(backend: str) -> None:
    outs, weights, specs, expected = [], [], [], []
    for k in range(examples(1000)):
        # A few kinds of tensors: Triton compiles for each.
        choose = Seeded(k % 10)
        shape = choose.integer(0, 20), choose.integer(0, 40)
        specs.append(replace(rule(choose, *shape), key=k).tile())
        values = data(shape, choose.pick(DTYPES), k)
        outs.append(poisoned(specs[-1].shape, choose.pick(DTYPES), device=DEVICE))
        weights.append(values.to(DEVICE))
        expected.append(poisoned(specs[-1].shape, outs[-1].dtype))
        tile_reference.tile_rules_([expected[-1]], [values], [specs[-1]])
    ops.tile_rules_(outs, weights, specs, backend=backend)
    for out, right in zip(outs, expected, strict=True):
        assert_same_bits(out.cpu(), right)
    index = [k * 7 % len(weights) for k in range(len(weights))]
    copies = ops.replicate(weights, index, 0.5, 0.2, 0.1, 9, backend=backend)
    plain = [weight.cpu() for weight in weights]
    for out, right in zip(copies, ops.replicate(plain, index, 0.5, 0.2, 0.1, 9, backend="eager"), strict=True):
        assert_same_bits(out.cpu(), right)
    assert_same_bits(
        ops.mean_square(weights, backend=backend).cpu(), noise_reference.mean_square(plain, [1.0] * len(plain))
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_huge_tensor_among_many_small_ones(backend: str) -> None:
    shapes = [(3, 5)] * 200 + [(SIDE // 4, SIDE // 2)] + [(70,)] * 200
    plain = [normal_weights(shape, torch.bfloat16).cpu() for shape in shapes]
    specs = [
        Tile.copies(shape, (2,)) if len(shape) == 1 else Tile.copies(shape, (2, 2), 1, Noise(std=0.01), key=k)
        for k, shape in enumerate(shapes)
    ]
    sizes = [spec.shape for spec in specs]
    outs = [torch.full(size, torch.nan, dtype=torch.bfloat16, device=DEVICE) for size in sizes]
    expected = [torch.full(size, torch.nan, dtype=torch.bfloat16) for size in sizes]
    ops.tile_rules_(outs, [weight.to(DEVICE) for weight in plain], specs, backend=backend)
    ops.tile_rules_(expected, plain, specs, backend="cpu")
    for out, right in zip(outs, expected, strict=True):
        assert_same_bits(out.cpu(), right)
