"""What the kernels of `expand` are compiled to: whole vectors, several at once, exact sums, and everything in registers."""

from __future__ import annotations

import pytest

from tests.cuda.tools import ARCHITECTURES, Kernel, built_kernel, built_kernels

#: Elements of a vector and sums at once, and sources under way.
MIXES = {(4, 4): 8, (4, 16): 4, (8, 4): 6, (8, 8): 4}
#: Layers of a tile of 8 x 4 pairs, and a lane's products in a step: 4 elements of 32 pairs.
LAYERS, PRODUCTS = 12, 4 * 32


def mix(arch: int, width: int, outs: int) -> Kernel:
    return built_kernel(arch, f"MixVectorsILi{width}ELi{outs}E")


def places(kernel: Kernel, *names: str) -> list[int]:
    """Where instructions whose names begin with one of these are."""
    return [i for i, line in enumerate(kernel.sass) if line.startswith(names)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_nothing_is_spilled(arch: int) -> None:
    found = {name: k for name, k in built_kernels(arch).items() if any(part in name for part in ("Mix", "InnerProd"))}
    assert len(found) == len(MIXES) + 2 + 3
    for name, kernel in found.items():
        assert kernel.stack == 0 and not kernel.count("LDL.*|STL.*"), name
        # With 128 a processor holds two blocks, as many as it takes to have 23 KB and more on their way all the time.
        most = 80 if "MixElements" in name else 200 if "ElementLayers" in name else 128
        assert kernel.registers <= most, (name, kernel.registers)
        assert kernel.shared <= 8 << 10, (name, kernel.shared)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("width", "outs"), MIXES)
def test_mixes_read_and_write_whole_vectors(arch: int, width: int, outs: int) -> None:
    """Vectors of 4 elements have 16 or 8 bytes, as the layer's dtype says."""
    kernel = mix(arch, width, outs)
    sizes = ("128",) if width == 8 else ("128", "64")
    for size in sizes:
        assert kernel.count(rf"LDG\.E\.{size}\.CONSTANT") == MIXES[width, outs]
        assert kernel.count(rf"STG\.E\.EF\.{size}") == outs
    kinds = "|".join(sizes)
    assert not kernel.count(rf"(?!LDG\.E\.({kinds})\.CONSTANT)LDG.*CONSTANT")
    assert not kernel.count(rf"(?!STG\.E\.EF\.({kinds}))STG.*")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("width", "outs"), MIXES)
def test_mixes_round_every_product_and_every_sum(arch: int, width: int, outs: int) -> None:
    kernel = mix(arch, width, outs)
    sums = MIXES[width, outs] * outs * width
    assert kernel.count("FADD.*") == sums and kernel.count("FMUL.*") >= sums
    assert not kernel.count("FFMA.*")
    # Coefficients of four outs come at once.
    assert kernel.count(r"LDS\.128") == MIXES[width, outs] * outs // 4


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("width", "outs"), MIXES)
def test_sources_of_a_mix_are_on_their_way_together(arch: int, width: int, outs: int) -> None:
    kernel = mix(arch, width, outs)
    reads = [i for i in places(kernel, "LDG") if "CONSTANT" in kernel.sass[i].split()[0]]
    between = kernel.sass[reads[0] : reads[-1]]
    assert not [line for line in between if line.startswith(("FADD", "LDS", "BAR"))]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("compute", "fd")
def test_mixes_of_elements_are_not_fused_either(arch: int, compute: str) -> None:
    kernel = built_kernel(arch, f"MixElementsI{compute}E")
    assert kernel.count("FADD.*" if compute == "f" else "DADD.*") >= 8 * 4
    assert not kernel.count("FFMA.*|DFMA.*")


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_inner_products_read_whole_vectors_together(arch: int) -> None:
    kernel = built_kernel(arch, "VectorLayers")
    for size in ("128", "64"):
        assert kernel.count(rf"LDG\.E\.{size}\.CONSTANT") == LAYERS
    assert not kernel.count(r"(?!LDG\.E\.(128|64)\.CONSTANT)LDG.*CONSTANT")
    reads = [i for i in places(kernel, "LDG") if "CONSTANT" in kernel.sass[i].split()[0]]
    products = places(kernel, "FFMA")
    assert len(products) == PRODUCTS
    # All layers of a tile are on their way before one is multiplied, and warps do not wait for one another.
    assert reads[-1] < products[0] and not [i for i in places(kernel, "BAR") if reads[0] < i < products[-1]]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layers", ["VectorLayers", "ElementLayersIf", "ElementLayersId"])
def test_inner_products_go_on_in_double(arch: int, layers: str) -> None:
    kernel = built_kernel(arch, "InnerProducts", layers)
    wide = layers.endswith("d")
    assert kernel.count("DFMA.*" if wide else "FFMA.*") == (PRODUCTS // 2 if wide else PRODUCTS)
    assert kernel.count("DADD.*") >= 31
    assert kernel.count("ATOMG.*|ATOM.*|RED.*") == 1
