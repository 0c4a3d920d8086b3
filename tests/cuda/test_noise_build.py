"""What the noise kernels are compiled to: exact arithmetic, in registers, and few instructions a normal."""

from __future__ import annotations

import pytest

from tests.cuda.tools import ARCHITECTURES, Kernel, built_kernel, compiled

#: A square root alone, and four normals alone.
PARTS = """
#include "common/normal.h"
__global__ void root(float* x) { x[threadIdx.x] = gk::square_root(x[threadIdx.x]); }
__global__ void quad(float4* z, const __grid_constant__ gk::KeySchedule key) {
  const gk::Quad q = gk::normal_quad(key, 1, threadIdx.x);
  z[threadIdx.x] = make_float4(q.z[0], q.z[1], q.z[2], q.z[3]);
}
"""


def part(arch: int, name: str) -> Kernel:
    (kernel,) = (kernel for mangled, kernel in compiled(PARTS, arch).items() if name in mangled)
    return kernel


def assert_exact(kernel: Kernel, arch: int) -> None:
    """No fused multiply-add but those that make a square root correctly rounded."""
    root = part(arch, "root")
    fused = root.count("FFMA.*")
    assert root.count("MUFU.RSQ") == 1 and fused == 2
    assert kernel.count("FFMA.*") == fused * kernel.count("MUFU.RSQ") > 0
    # Reciprocals belong to divisions of integers.
    assert not kernel.count("MUFU.(?!RSQ|RCP).*")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_normals_are_exact_and_cost_what_they_should(arch: int) -> None:
    kernel = part(arch, "quad")
    assert_exact(kernel, arch)
    assert kernel.count("MUFU.RSQ") == 2
    assert kernel.stack == 0 and kernel.registers <= 40
    # 14 products of the words (one of them is known), 14 exclusive ors of three, 12 of them with a key.
    assert kernel.count("IMAD.WIDE.U32|IMAD.HI.U32") <= 14
    # Four normals, with a few instructions around them for where the thread is.
    assert sum(kernel.counts.values()) - kernel.count("NOP") <= 160


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_normal_stays_in_registers(arch: int) -> None:
    kernel = built_kernel(arch, "NormalKernel")
    assert_exact(kernel, arch)
    assert kernel.stack == 0 and kernel.registers <= 40
    assert kernel.count("STS.128") and not kernel.count("LDL.*|STL.*")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_mean_square_reads_vectors_ahead_and_sums_in_double(arch: int) -> None:
    kernel = built_kernel(arch, "MeanSquareKernel")
    # Eight rows ahead where a product scales, two where a division does, for items of 4 and of 2 bytes.
    assert kernel.count(r"LDG\.E\.128\.CONSTANT") >= 2 * (8 + 2)
    assert kernel.stack == 0 and not kernel.count("LDL.*|STL.*")
    assert kernel.registers <= 128  # two blocks on a processor
    assert kernel.count("DADD") and kernel.count("DMUL") and kernel.count("ATOMG.*|ATOM.*|RED.*")
