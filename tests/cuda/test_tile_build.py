"""What the kernels of `tile` are compiled to: whole vectors, several at once, exact noise, and everything in registers."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.cuda.tools import ARCHITECTURES, Kernel, built_kernel, built_kernels, compiled

#: Source item sizes and target formats, by what stands in the kernels' names.
PAIRS = [(source, target) for source in (2, 4) for target in ("Float32", "BFloat16", "Float16")]
#: Kernels with one division and with two: each takes some fused steps, and all share a routine for odd arguments.
DIVISIONS = """
__global__ void one(float* x) { x[threadIdx.x] = x[threadIdx.x] / x[99]; }
__global__ void two(float* x) {
  const float q = x[threadIdx.x + 7] / x[98];
  x[threadIdx.x] = x[threadIdx.x] / x[99];
  x[threadIdx.x + 7] = q;
}
"""


def vectors(arch: int, body: str, source: int, target: str) -> Kernel:
    return built_kernel(arch, body, f"VectorsILi{source}E", f"{len(target)}{target}E")


@cache
def division(arch: int, pattern: str) -> tuple[int, int]:
    """How many such instructions each division takes, and how many the routine that divisions share."""
    kernels = compiled(DIVISIONS, arch).items()
    one, two = (k.count(pattern) for part in ("one", "two") for name, k in kernels if part in name)
    return two - one, 2 * one - two


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nothing_is_spilled(arch: int) -> None:
    found = {name: kernel for name, kernel in built_kernels(arch).items() if "TileKernel" in name}
    assert len(found) == 2 * (len(PAIRS) + 2) + 2
    for name, kernel in found.items():
        assert kernel.stack == 0 and not kernel.count("LDL.*|STL.*"), name
        # With these a processor holds four, three and two blocks. 32 bytes a vector are read ahead where fp32 becomes less.
        ahead = "VectorsILi4E" in name and "Float32" not in name
        most = 128 if "DrawnElements" in name else 80 if "DrawnVectors" in name or ahead else 64
        assert kernel.registers <= most, (name, kernel.registers)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("body", ["CleanTile", "DrawnVectors"])
def test_vectors_are_read_and_written_whole(arch: int, source: int, target: str, body: str) -> None:
    kernel = vectors(arch, body, source, target)
    bytes_read = source * (4 if target == "Float32" else 8)
    reads = rf"LDG\.E\.{64 if bytes_read == 8 else 128}\.CONSTANT"
    assert kernel.count(reads) and not kernel.count(rf"(?!{reads})LDG.*CONSTANT")
    assert kernel.count(r"STG\.E\.EF\.128") and not kernel.count(r"(?!STG\.E\.EF\.128)STG.*")
    if body == "CleanTile":
        # Four vectors of a row are on their way before the first is waited for.
        ahead = 4 * max(1, bytes_read // 16)
        at = [i for i, line in enumerate(kernel.sass) if line.startswith(("LDG", "STG"))]
        longest = max(re.findall("L+", "".join(kernel.sass[i][0] for i in at)), key=len)
        assert len(longest) >= ahead


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_noise_is_exact(arch: int, source: int, target: str) -> None:
    """No fused multiply-add but those that make square roots and quotients correctly rounded."""
    kernel = vectors(arch, "DrawnVectors", source, target)
    reciprocals, shared_reciprocals = division(arch, "MUFU.RCP")
    divisions, left = divmod(kernel.count("MUFU.RCP") - shared_reciprocals, reciprocals)
    assert left == 0 and divisions > 0

    def beside_divisions(pattern: str) -> int:
        each, shared = division(arch, pattern)
        return kernel.count(pattern) - each * divisions - shared

    # Normals are made for a fill, for a pair, and twice for a triangle: a root for each two.
    roots = beside_divisions("MUFU.RSQ")
    assert roots == 4 * (4 if target == "Float32" else 8) // 2
    assert beside_divisions("FFMA.*") == 2 * roots


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("target", ["BFloat16", "Float32"])
def test_a_pair_of_noisy_copies_costs_few_instructions(arch: int, target: str) -> None:
    """What bounds noise in half precision: 38 instructions a normal, which serves two copies (40 in fp32)."""
    kernel, width = vectors(arch, "DrawnVectors", 2, target), 4 if target == "Float32" else 8
    pairs = [
        length
        for first, last in loops(kernel)
        if sum(line.startswith("MUFU.RSQ ") for line in kernel.sass[first : last + 1]) == width // 2
        for length in [shortest(kernel, first, last)]
    ]
    assert pairs and min(pairs) <= (41 if width == 4 else 39) * width


def jump(line: str) -> int | None:
    """The index of the instruction that a branch leads to."""
    found = re.match(r"BRA(?:\.\S+)? .*?0x([0-9a-f]+)", line)
    return int(found[1], 16) // 16 if found else None


def loops(kernel: Kernel) -> list[tuple[int, int]]:
    """First and last instruction of every loop."""
    jumps = [(jump(line), i) for i, line in enumerate(kernel.sass)]
    return [(to, i) for to, i in jumps if to is not None and to < i]


def shortest(kernel: Kernel, first: int, last: int) -> int:
    """Instructions of the shortest way through a loop."""
    steps = {first: 1}
    for i in range(first, last):
        if i in steps:
            for after in (i + 1, jump(kernel.sass[i])):
                if after is not None and i < after <= last:
                    steps[after] = min(steps.get(after, steps[i] + 1), steps[i] + 1)
    return steps[last]
