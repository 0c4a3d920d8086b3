"""What the kernels of `replicate` are compiled to: whole vectors, several at once, and everything in registers."""

from __future__ import annotations

import pytest

from tests.cuda.test_noise_build import assert_exact
from tests.cuda.tools import ARCHITECTURES, built_kernel, built_kernels

PAIRS = [(2, 2), (2, 4), (4, 2), (4, 4)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nothing_is_spilled(arch: int) -> None:
    found = {name: kernel for name, kernel in built_kernels(arch).items() if "Copy" in name}
    assert len(found) == 2 * len(PAIRS) + 2
    for name, kernel in found.items():
        assert kernel.stack == 0 and not kernel.count("LDL.*|STL.*"), name
        # At 64 registers a processor holds four blocks, 32 warps; at 80, three.
        assert kernel.registers <= (64 if "Vectors" in name else 80), (name, kernel.registers)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("noisy", [False, True])
def test_vectors_are_read_and_written_whole(arch: int, source: int, target: int, noisy: bool) -> None:
    kernel = built_kernel(arch, f"CopyVectorsILi{source}ELi{target}ELb{int(noisy)}E")
    width = 16 // max(source, target)
    batch = 2 if noisy else 4
    size = {16: "128", 8: "64"}
    reads = rf"LDG\.E\.{size[source * width]}\.CONSTANT"
    writes = rf"STG\.E\.EF\.{size[target * width]}"
    assert kernel.count(reads) == batch and not kernel.count(rf"(?!{reads})LDG.*CONSTANT")
    assert kernel.count(writes) >= batch and not kernel.count(rf"(?!{writes})STG.*")
    # All reads of a thread are under way before it waits for one.
    first, last = (index for index, line in enumerate(kernel.sass) if line.startswith("LDG")) if batch == 2 else (0, 0)
    assert last - first < 20
    if noisy:
        assert_exact(kernel, arch)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_noisy_copy_of_half_precision_costs_few_instructions(arch: int) -> None:
    kernel = built_kernel(arch, "CopyVectorsILi2ELi2ELb1E")
    # The last vector where the noise lines up: after the block's meetings, eight elements to the write.
    meeting, write = (max(i for i, line in enumerate(kernel.sass) if line.startswith(name)) for name in ("BAR", "STG"))
    assert 0 < write - meeting <= 48 * 8
