"""What the compiler makes of the Triton kernels: no stack, whole vectors, and no product and sum fused into one rounding."""

from __future__ import annotations

import re
from typing import Any

import pytest
import triton
import triton.language as tl

from growkernels.kernels.mean_square import sums_kernel
from growkernels.kernels.noise import normal_kernel
from growkernels.kernels.replicate import replicate_kernel
from growkernels.kernels.tile import tile_kernel
from tests.kernels.compiled import Compiled, compiled

SIGNATURE = {"table": "*i64", "count": "i32", "sums": "*fp64"}
ARCHES = 80, 90, 100


@triton.jit
def _square_roots(table, BLOCK: tl.constexpr):
    out = table.to(tl.pointer_type(tl.float32)) + tl.arange(0, BLOCK)
    tl.store(out, tl.sqrt_rn(tl.load(out)))


def assert_no_fused_sums(kernel: Compiled, arch: int, roots: int) -> None:
    """`roots` correctly rounded square roots, which are made of fused steps themselves, and no other fused step."""
    assert kernel.ptx.count("sqrt.rn.f32") == roots
    assert not re.findall(r"\bfma\.|\bmad\.\S*f32|\.approx|div\.full|\.ftz", kernel.ptx)
    alone = compiled(_square_roots, arch, SIGNATURE, BLOCK=128 * roots)
    assert kernel.count("FFMA") == alone.count("FFMA") > 0
    # ptxas 12.9 makes one of these of a product and a sum of two numbers each that were to be rounded.
    assert kernel.count("FFMA2") == 0


def tile(arch: int, source: tl.dtype, target: tl.dtype, kind: str, num_warps: int = 4, **other: Any) -> Compiled:
    narrow = min(source.primitive_bitwidth, target.primitive_bitwidth)
    constants = {
        "SOURCE": source,
        "TARGET": target,
        "COMPUTE": tl.float64 if tl.float64 in (source, target) else tl.float32,
        "KIND": kind,
        **dict.fromkeys(("TRIANGLE", "DIAGONAL", "DIVIDE", "MEASURED", "SCATTERED_ROWS", "SCATTERED_COLUMNS"), False),
        "ALONG": "columns",
        "QUADS": kind in ("noise", "draw"),
        "VECTOR": max(4, 128 // narrow),
        "ROWS": 8,
        "COLUMNS": 256,
    }
    return compiled(tile_kernel, arch, SIGNATURE, num_warps, **{**constants, **other})


def widths(kernel: Compiled) -> tuple[int, set[str]]:
    """Loads of 16 bytes (a thread's share of the source; descriptors are read word by word), and all kinds of stores."""
    return kernel.sass["LDG.E.128"], {name for name in kernel.sass if name.startswith("STG")}


@pytest.mark.parametrize(
    ("arch", "dtype"), [(80, tl.bfloat16), (90, tl.bfloat16), (90, tl.float32), (100, tl.bfloat16)], ids=str
)
def test_tile_with_noise(arch: int, dtype: tl.dtype) -> None:
    kernel = tile(arch, dtype, dtype, "noise")
    kernel.assert_in_registers()
    # A thread takes 16 elements and makes their normals by fours: none is handed from one thread to another.
    assert widths(kernel) == (dtype.primitive_bitwidth // 8, {"STG.E.128"})
    assert kernel.count("SHFL") == kernel.count("LDS") == kernel.count("BAR") == 0
    assert_no_fused_sums(kernel, arch, 8)
    # Rounding is the GPU's own: two elements an instruction, for a pair's two copies.
    assert kernel.count("F2FP") == (16 if dtype == tl.bfloat16 else 0)


@pytest.mark.parametrize("arch", ARCHES)
def test_tile_without_noise(arch: int) -> None:
    kernel = tile(arch, tl.float32, tl.bfloat16, "scale")
    kernel.assert_in_registers()
    assert widths(kernel) == (4, {"STG.E.128"})
    assert kernel.count("FFMA") == kernel.count("BAR") == 0


@pytest.mark.parametrize(
    ("source", "target", "kind", "other", "loads"),
    [
        (tl.bfloat16, tl.bfloat16, "move", {}, 2),
        (tl.bfloat16, tl.bfloat16, "scale", {"DIVIDE": True}, 2),
        (tl.bfloat16, tl.float32, "scale", {"DIAGONAL": True}, 2),
        (tl.bfloat16, tl.bfloat16, "noise", {"TRIANGLE": True, "DIAGONAL": True}, 2),
        (tl.bfloat16, tl.bfloat16, "noise", {"ALONG": "rows", "ROWS": 256, "COLUMNS": 8}, 2),
        (tl.float64, tl.bfloat16, "noise", {"MEASURED": True}, 8),
        (tl.bfloat16, tl.bfloat16, "scale", {"SCATTERED_ROWS": True}, 2),
        (tl.bfloat16, tl.bfloat16, "draw", {}, 0),
        pytest.param(tl.bfloat16, tl.bfloat16, "fill", {"ROWS": 1, "COLUMNS": 2048}, 0, marks=pytest.mark.slow),
        pytest.param(tl.float16, tl.float16, "scale", {"ROWS": 32, "COLUMNS": 64}, 2, marks=pytest.mark.slow),
    ],
)
def test_other_aligned_variants_of_tile(
    source: tl.dtype, target: tl.dtype, kind: str, other: dict[str, Any], loads: int
) -> None:
    kernel = tile(90, source, target, kind, **other)
    kernel.assert_in_registers()
    assert widths(kernel) == (loads, {"STG.E.128"})
    assert not re.findall(r"div\.(full|approx)|sqrt\.approx|\bfma\.|\.ftz", kernel.ptx)


@pytest.mark.parametrize("scattered", [pytest.param(False, marks=pytest.mark.slow), True])
def test_variants_of_tile_for_any_strides(scattered: bool) -> None:
    other = {"ALONG": "neither", "QUADS": False, "SCATTERED_ROWS": scattered, "SCATTERED_COLUMNS": scattered}
    kernel = tile(90, tl.bfloat16, tl.float32, "noise", num_warps=8, **other)
    kernel.assert_in_registers()
    assert_no_fused_sums(kernel, 90, 8)


@pytest.mark.parametrize(("kind", "arch"), [("move", 90), *(("noise", arch) for arch in ARCHES)])
def test_replicate(kind: str, arch: int) -> None:
    constants = {"SOURCE": tl.bfloat16, "TARGET": tl.bfloat16, "COMPUTE": tl.float32, "KIND": kind, "BLOCK": 2048}
    flags = dict.fromkeys(("FLAT", "ALIGNED", "QUADS"), True)
    kernel = compiled(replicate_kernel, arch, SIGNATURE, **constants, **flags, VECTOR=8)
    kernel.assert_in_registers()
    assert widths(kernel) == (2, {"STG.E.128"})
    if kind == "noise":
        assert_no_fused_sums(kernel, arch, 8)


def test_normals() -> None:
    constants = {"FORMAT": tl.float32, "COMPUTE": tl.float32, "FLAT": True, "ALIGNED": True, "VECTOR": 4, "BLOCK": 2048}
    kernel = compiled(normal_kernel, 90, SIGNATURE, **constants)
    kernel.assert_in_registers()
    assert widths(kernel) == (0, {"STG.E.128"})
    assert_no_fused_sums(kernel, 90, 8)
    # A whole product of two words is one instruction: two a round and counter, 7 rounds, 4 counters a thread.
    assert kernel.sass["IMAD.WIDE.U32"] + kernel.sass["IMAD.HI.U32"] < 65


def test_sums_of_squares() -> None:
    constants = {"FORMAT": tl.float32, "COMPUTE": tl.float32, "SQUARE": True, "FLAT": True, "BLOCKS": 16}
    kernel = compiled(sums_kernel, 90, SIGNATURE, **constants)
    kernel.assert_in_registers()
    assert "div.rn.f64" in kernel.ptx and "div.rn.f32" in kernel.ptx
    assert not re.findall(r"div\.(full|approx)|\bfma\.", kernel.ptx)
