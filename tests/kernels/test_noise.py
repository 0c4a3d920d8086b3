"""The Triton noise: the interpreter's bits are NumPy's, and what the compiler makes of it is exact and needs no stack."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import triton
import triton.language as tl
from growkernels.kernels import noise
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# The interpreter is chosen when Triton is imported, for the whole process: it gets one of its own.
INTERPRETED = """
import numpy as np
import torch
from growkernels.kernels.noise import normal_
from growkernels.ops.noise_reference import z
for key, field, start, count in (
    (0x0123456789ABCDEF, 0, 0, 5000), (-3, 4, 2**34 - 6, 3000), (2**63 - 1, -1, 2**40 + 7, 9), (1, 1, 3, 1),
    (5, 2**32 + 1, 2, 10007), (-(2**63), 2, 2**62, 4), (2**31, 2**31, 2**31 - 5, 11), (7, 0, 0, 0),
):
    memory = torch.full((count + 2,), 7.0)
    normal_(memory[1:-1], key, field, start)
    expected = z(key, field, start + np.arange(count)) if count else np.empty(0, np.float32)
    assert np.array_equal(memory[1:-1].numpy().view(np.uint32), expected.view(np.uint32)), (key, field, start, count)
    assert memory[0] == memory[-1] == 7.0
print("same bits")
"""


def test_interpreted_normals_have_the_bits_of_numpy() -> None:
    command = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "", "TRITON_INTERPRET": "1"}, check=False
    )
    assert done.stdout == "same bits\n", done.stderr


@triton.jit
def _square_roots(out, BLOCK: tl.constexpr):  # noqa: N803
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.sqrt_rn(tl.load(out + i)))


def _compiled(
    kernel: triton.JITFunction, signature: dict[str, str], block: int, arch: int, folder: Path
) -> tuple[str, str, str]:
    """PTX, SASS and resource usage of a kernel, compiled without a GPU."""
    source = ASTSource(kernel, {**signature, "BLOCK": "constexpr"}, {"BLOCK": block}, {(0,): [["tt.divisibility", 16]]})
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=noise.EXACT)
    cubin = folder / f"{kernel.__name__}.cubin"
    cubin.write_bytes(built.asm["cubin"])
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    sass, usage = (
        subprocess.run([tool, option, cubin], capture_output=True, text=True, check=True).stdout
        for option in ("-sass", "-res-usage")
    )
    return built.asm["ptx"], sass, usage


def _count(instruction: str, sass: str) -> int:
    return len(re.findall(rf"\b{instruction}\b", sass))


@pytest.mark.parametrize("arch", [80, 90, 100])
def test_compiled_noise_is_exact_and_stays_in_registers(arch: int, tmp_path: Path) -> None:
    signature = {
        "out": "*fp32",
        "count": "i64",
        "start": "i64",
        **dict.fromkeys(("key_low", "key_high", "field_low", "field_high"), "i32"),
    }
    ptx, sass, usage = _compiled(noise.normal_kernel, signature, 512, arch, tmp_path)
    # 512 counters on 128 threads: four a thread, with two square roots each.
    roots = ptx.count("sqrt.rn.f32")
    assert roots == 8
    assert not re.findall(r"\bfma\.|\bmad\.\S*f32|sqrt\.approx|\.ftz", ptx)
    # The correctly rounded square root is itself made of fused steps: there may be those and no others.
    _, roots_sass, _ = _compiled(_square_roots, {"out": "*fp32"}, 128 * roots, arch, tmp_path)
    assert _count("FFMA", sass) == _count("FFMA", roots_sass) > 0
    assert _count("FMUL", sass) > 100
    assert _count("STL", sass) == _count("LDL", sass) == 0
    assert re.search(r"STACK:0 .*LOCAL:0 ", usage)
