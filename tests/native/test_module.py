"""The extension itself: what it says of its build, its hooks, and what it needs of torch."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import torch

import growkernels

_C = pytest.importorskip("growkernels._C", reason="the compiled extension is not built")

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        ((ONES,) * 4, (ONES,) * 2, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
        ),
    ],
)
def test_philox_gives_random123s_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert _C.philox(counter, key) == words


@pytest.mark.parametrize(
    ("counter", "key"),
    [
        ((2**32, 0, 0, 0), (0, 0)),
        ((0, 0, 0, 2**32 + 1), (0, 0)),
        ((0, 0, 0, 0), (2**64, 0)),
        ((-1, 0, 0, 0), (0, 0)),
        ((0, 0, 0, 0), (0, -1)),
        ((0.5, 0, 0, 0), (0, 0)),
        ((0, 0, 0), (0, 0)),
        ((0, 0, 0, 0), (0, 0, 0)),
    ],
)
def test_philox_takes_words_of_32_bits(counter: tuple[float, ...], key: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _C.philox(counter, key)


def test_memory_has_an_address() -> None:
    for address, size in ((-1, 8), (2**64, 8), (0, -1), (0.5, 8)):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            _C.ask_for_huge_pages(address, size)


def test_the_build_is_of_this_version() -> None:
    info = _C.build_info()
    assert info["version"] == growkernels.__version__
    assert info["torch"] and info["compiler"]


def test_an_unknown_instruction_set_is_refused_and_changes_nothing() -> None:
    before = _C.isa()
    with pytest.raises(ValueError, match="'mmx' is not available here"):
        _C.force_isa("mmx")
    assert _C.isa() == before
    _C.force_isa("scalar")
    assert _C.isa() == "scalar"
    _C.force_isa(None)
    assert _C.isa() == before


def test_cuda_kernels_are_in_the_build_wherever_there_is_a_cuda_compiler() -> None:
    compiler = shutil.which("nvcc", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/cuda/bin")
    if not compiler or os.environ.get("GROWKERNELS_CUDA") == "0":
        pytest.skip("no nvcc, or GROWKERNELS_CUDA=0")
    architectures = (_C.build_info()["cuda"] or "").split(", ")
    assert architectures[0] == "sm_80", "nvcc failed, see build/log"


def undefined_symbols() -> list[str]:
    listing = subprocess.run(["nm", "-D", "--undefined-only", _C.__file__], capture_output=True, text=True, check=True)
    return [line.split()[-1] for line in listing.stdout.splitlines()]


needs_binutils = pytest.mark.skipif(shutil.which("nm") is None, reason="nm of binutils lists the symbols")


@needs_binutils
def test_only_torchs_stable_c_interface_is_used() -> None:
    torchs = [s for s in undefined_symbols() if any(word in s for word in ("torch", "c10", "caffe", "at6"))]
    assert torchs
    assert [s for s in torchs if not s.startswith(("aoti_torch_", "torch_"))] == []


@needs_binutils
def test_it_loads_where_there_is_no_cuda() -> None:
    """CUDA's runtime is inside; torch's own library for CUDA is looked up when a kernel is launched."""
    # What names CUDA and does not need it: the number that torch gives to the type of device.
    assert [s for s in undefined_symbols() if "cuda" in s.lower() or s.startswith("cu")] in (
        [],
        ["aoti_torch_device_type_cuda"],
    )
    needed = subprocess.run(["objdump", "-p", _C.__file__], capture_output=True, text=True, check=True).stdout
    libraries = [line.split()[1] for line in needed.splitlines() if line.strip().startswith("NEEDED")]
    assert "libtorch_cpu.so" in libraries
    assert not [library for library in libraries if "python" in library]
    assert not [library for library in libraries if "cuda" in library or library.startswith("libcu")]
    exported = subprocess.run(["nm", "-D", "--defined-only", _C.__file__], capture_output=True, text=True, check=True)
    # Torch has a runtime of its own: the two must not see each other's functions.
    assert not [line for line in exported.stdout.splitlines() if " cuda" in line or " __cuda" in line]


def test_pages_are_advice() -> None:
    """Memory that was asked for is used as before, also where it is small or does not begin with a page."""
    for size in (1, 5 << 20):
        tensor = torch.arange(size, dtype=torch.int32)
        _C.ask_for_huge_pages(tensor[1:].data_ptr(), tensor[1:].nbytes)
        assert tensor.equal(torch.arange(size, dtype=torch.int32))
