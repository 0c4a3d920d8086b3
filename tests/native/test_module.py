"""The extension itself: what it says of its build, its hooks, and what it needs of torch."""

from __future__ import annotations

import shutil
import subprocess

import pytest

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


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm of binutils lists the symbols")
def test_only_torchs_stable_c_interface_is_used() -> None:
    listing = subprocess.run(["nm", "-D", "--undefined-only", _C.__file__], capture_output=True, text=True, check=True)
    symbols = [line.split()[-1] for line in listing.stdout.splitlines()]
    torchs = [s for s in symbols if any(word in s for word in ("torch", "c10", "caffe", "at6"))]
    assert torchs
    assert [s for s in torchs if not s.startswith(("aoti_torch_", "torch_"))] == []
