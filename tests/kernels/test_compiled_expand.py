"""What the compiler makes of the kernels of `expand`: tensor cores fed by copies of 16 bytes, no stack, exact mixes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import triton.language as tl

from growkernels.kernels.expand import add_sums_kernel, mix_kernel, pair_sums_kernel
from growkernels.kernels.product_blocks import LARGE, LARGE_FLOAT, PAIRED, SMALL, SMALL_FLOAT, WIDE, Blocks
from growkernels.kernels.products import products_kernel
from tests.kernels.compiled import Compiled, compiled

SIGNATURE = {"table": "*i64", "coefficients": "*fp32", "sums": "*fp64"}
SLOW_80, SLOW_100 = (pytest.param(arch, marks=pytest.mark.slow) for arch in (80, 100))
#: Shared memory of a processor, of which every program also takes 1 KiB.
SHARED = {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}


def built(
    kernel: Any, arch: int, num_warps: int = 4, options: dict[str, Any] | None = None, **constants: Any
) -> Compiled:
    signature = {name: SIGNATURE.get(name, "i32") for name in kernel.arg_names}
    return compiled(kernel, arch, signature, num_warps, options or {"enable_fp_fusion": False}, **constants)


def product(arch: int, blocks: Blocks, left: str = "columns", right: str = "columns", **other: Any) -> Compiled:
    constants = {
        "FORMAT": tl.bfloat16,
        "TARGET": tl.bfloat16,
        "LEFT": left,
        "RIGHT": right,
        "OUT": "columns",
        **{"ALIGNED": True, "EVEN": True, "ADD": False},
        **{"ROWS": blocks.rows, "COLUMNS": blocks.columns, "INNER": blocks.inner},
    }
    options = {"num_stages": blocks.stages, "maxnreg": blocks.registers, "enable_fp_fusion": True}
    kernel = built(products_kernel, arch, blocks.warps, options, **{**constants, **other})
    kernel.assert_in_registers()
    registers = int(re.search(r"REG:(\d+)", kernel.usage)[1])
    assert blocks.resident * (kernel.shared + 1024) <= SHARED[arch]
    assert blocks.resident * 32 * blocks.warps * -(-registers // 8) * 8 <= 65536
    return kernel


def names(kernel: Compiled, *families: str) -> set[str]:
    return {name for name in kernel.sass if name.split(".")[0] in families}


def assert_copied_in_vectors(kernel: Compiled, blocks: Blocks, item: int = 2) -> None:
    """Operands go from memory to shared memory 16 bytes at a time, all stages but one ahead; only table words are loaded."""
    assert {name[-4:] for name in names(kernel, "LDGSTS")} == {".128"}
    a_stage = (blocks.rows + blocks.columns) * blocks.inner * item // (16 * 32 * blocks.warps)
    assert kernel.count("LDGSTS") >= blocks.stages * a_stage
    assert names(kernel, "LDG") <= {"LDG.E", "LDG.E.64"}
    assert names(kernel, "STG") == {"STG.E.128"}


def assert_on_tensor_cores(kernel: Compiled, arch: int, blocks: Blocks) -> None:
    # One step of a program, by the instruction's own size; on sm_100 the loop may be peeled, and one thread issues.
    tile = blocks.rows * blocks.columns * blocks.inner
    if arch == 80:
        assert kernel.count("HMMA") == tile // (16 * 8 * 16) // blocks.warps
    elif arch == 90:
        assert kernel.count("HGMMA") == tile // (64 * min(256, blocks.columns) * 16) // (blocks.warps // 4)
    else:
        assert kernel.count("UTCHMMA") >= blocks.inner // 16
    assert kernel.count("FFMA") == kernel.count("FMUL") == 0


@pytest.mark.parametrize(
    ("arch", "blocks", "left", "right", "even"),
    [
        (80, LARGE, "columns", "columns", True),
        (90, PAIRED, "columns", "rows", True),
        (90, WIDE, "rows", "columns", False),
        (100, PAIRED, "columns", "rows", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (80, SMALL, "rows", "rows", False),
                (90, PAIRED, "columns", "columns", False),
                (90, PAIRED, "rows", "columns", False),
                (90, PAIRED, "rows", "rows", False),
                (90, WIDE, "columns", "columns", False),
                (90, WIDE, "rows", "rows", True),
                (90, SMALL, "rows", "columns", False),
                (100, WIDE, "rows", "columns", True),
                (100, SMALL, "columns", "columns", False),
            )
        ),
    ],
)
def test_products_of_16_bits(arch: int, blocks: Blocks, left: str, right: str, even: bool) -> None:
    kernel = product(arch, blocks, left, right, EVEN=even)
    assert_copied_in_vectors(kernel, blocks)
    assert_on_tensor_cores(kernel, arch, blocks)
    # Rounding is the GPU's own: two elements an instruction.
    assert kernel.count("F2FP") == blocks.rows * blocks.columns // (2 * 32 * blocks.warps)


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "blocks"), [(90, PAIRED), (90, WIDE), (100, LARGE)])
@pytest.mark.parametrize(("left", "right"), [("columns", "columns"), ("rows", "rows")])
def test_products_of_16_bits_kept_in_float32(arch: int, blocks: Blocks, left: str, right: str) -> None:
    kernel = product(arch, blocks, left, right, TARGET=tl.float32, EVEN=False)
    assert_copied_in_vectors(kernel, blocks)
    assert_on_tensor_cores(kernel, arch, blocks)


@pytest.mark.parametrize("arch", [SLOW_80, 90, SLOW_100])
def test_products_that_are_added(arch: int) -> None:
    blocks = LARGE if arch == 90 else SMALL
    kernel = product(arch, blocks, TARGET=tl.float32, ADD=True, EVEN=False)
    assert_on_tensor_cores(kernel, arch, blocks)
    a_thread = blocks.rows * blocks.columns * 4 // (16 * 32 * blocks.warps)
    assert kernel.sass["LDG.E.128"] == kernel.sass["STG.E.128"] == a_thread


@pytest.mark.parametrize(
    ("arch", "blocks", "left"),
    [
        (90, SMALL_FLOAT, "rows"),
        pytest.param(80, LARGE_FLOAT, "columns", marks=pytest.mark.slow),
        pytest.param(90, LARGE_FLOAT, "rows", marks=pytest.mark.slow),
        pytest.param(100, LARGE_FLOAT, "columns", marks=pytest.mark.slow),
    ],
)
def test_products_in_float32(arch: int, blocks: Blocks, left: str) -> None:
    kernel = product(arch, blocks, left, FORMAT=tl.float32, TARGET=tl.float32, EVEN=False)
    assert_copied_in_vectors(kernel, blocks, item=4)
    # Whole products, none of TF32, each rounded with its sum.
    assert not names(kernel, "HMMA", "HGMMA", "UTCHMMA", "UTCQMMA", "FMUL", "FMUL2")
    steps = blocks.rows * blocks.columns * blocks.inner // (32 * blocks.warps)
    assert kernel.count("FFMA") + 2 * kernel.count("FFMA2") == steps


@pytest.mark.parametrize(
    ("arch", "format"),
    [
        (90, tl.bfloat16),
        pytest.param(80, tl.bfloat16, marks=pytest.mark.slow),
        pytest.param(90, tl.float32, marks=pytest.mark.slow),
        pytest.param(100, tl.bfloat16, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_products_of_any_strides(arch: int, format: tl.dtype) -> None:
    blocks = SMALL_FLOAT if format == tl.float32 else SMALL
    constants = {"FORMAT": format, "OUT": "neither", "ALIGNED": False, "EVEN": False}
    kernel = product(arch, blocks, "neither", "neither", **constants)
    if format == tl.bfloat16:
        assert_on_tensor_cores(kernel, arch, blocks)


def mix(arch: int, source: tl.dtype, target: tl.dtype, **other: Any) -> Compiled:
    vector = 128 // min(source.primitive_bitwidth, target.primitive_bitwidth)
    constants = {"SOURCE": source, "TARGET": target, "COMPUTE": tl.float32, "UNIT": True, "VECTOR": vector}
    shape = {"OUTS": 4, "COLUMNS": 256, "BLOCK": 1024}
    kernel = built(mix_kernel, arch, **{**constants, **shape, **other})
    kernel.assert_in_registers()
    assert not re.findall(r"\bfma\.|\bmad\.\S*f32|\.approx|\.ftz", kernel.ptx)
    assert kernel.count("FFMA") == kernel.count("FFMA2") == 0
    return kernel


@pytest.mark.parametrize(
    ("arch", "source", "target"),
    [
        (90, tl.bfloat16, tl.bfloat16),
        (100, tl.float32, tl.float32),
        pytest.param(80, tl.bfloat16, tl.bfloat16, marks=pytest.mark.slow),
        pytest.param(90, tl.float32, tl.bfloat16, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_mixes(arch: int, source: tl.dtype, target: tl.dtype) -> None:
    kernel = mix(arch, source, target)
    # The first term, four in the loop, and one at its end; eight elements of each of four outs.
    assert kernel.sass["LDG.E.128"] == 6 * source.primitive_bitwidth // 16
    assert not {name for name in names(kernel, "LDG") if "U16" in name}
    assert names(kernel, "STG") == {"STG.E.128"}
    assert kernel.sass["STG.E.128"] == 4 * target.primitive_bitwidth // 16


@pytest.mark.slow
@pytest.mark.parametrize("unit", [False, True])
def test_mixes_of_any_strides(unit: bool) -> None:
    mix(90, tl.bfloat16, tl.bfloat16, UNIT=unit, VECTOR=1)


@pytest.mark.slow
def test_mixes_in_float64() -> None:
    """A product and its sum in one instruction would be rounded once."""
    constants = {"COMPUTE": tl.float64, "VECTOR": 4}
    kernel = mix(90, tl.float64, tl.float64, **constants)
    assert kernel.count("DFMA") == 0 < kernel.count("DMUL")


@pytest.mark.parametrize(
    ("left", "right"),
    [(tl.float32, tl.bfloat16), pytest.param(tl.float32, tl.float32, marks=pytest.mark.slow)],
    ids=str,
)
def test_inner_products(left: tl.dtype, right: tl.dtype) -> None:
    constants = {"LEFT": left, "RIGHT": right, "COMPUTE": tl.float32, "UNIT": True, "VECTOR": 4}
    shape = {"LEFTS": 4, "RIGHTS": 4, "STEPS": 32, "COLUMNS": 512, "BLOCK": 512}
    kernel = built(pair_sums_kernel, 90, options={"enable_fp_fusion": True}, **constants, **shape)
    kernel.assert_in_registers()
    assert kernel.sass["LDG.E.128"] == (8 if right == tl.float32 else 4)
    # Threads exchange nothing before their sums over all steps: four barriers of one reduction.
    assert kernel.count("FFMA") == 64
    assert kernel.count("BAR") <= 4
    assert kernel.count("FMUL") == kernel.count("FADD") == 0


def test_sums_of_shares() -> None:
    built(add_sums_kernel, 90, FORMAT=tl.bfloat16, BLOCK=1024).assert_in_registers()
