"""The CPU kernels without any intrinsics, as on Arm: they compile without torch, and their bits are the same."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from growkernels import ops
from tests.ops.tools import assert_same_bits, data, keys, poisoned

ROOT = Path(__file__).parents[2]
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-Wno-uninitialized")
SOURCES = [path for path in sorted((ROOT / "csrc" / "cpu").glob("*.cpp")) if path.name != "parallel.cpp"]
SOURCES += [ROOT / "csrc" / "common" / "view.cpp", Path(__file__).with_name("portable.cpp")]
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}


def compile_with(compiler: str, target: Path, *flags: str) -> Path:
    command = [compiler, *FLAGS, *flags, "-shared", "-fPIC", "-o", str(target), *map(str, SOURCES)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return target


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    loaded = ctypes.CDLL(
        str(compile_with(compiler, tmp_path_factory.mktemp("portable") / "kernels.so", "-DGK_PORTABLE"))
    )
    loaded.instructions.restype = ctypes.c_char_p
    loaded.mean_square.restype = ctypes.c_double
    assert loaded.instructions() == b"scalar"
    return loaded


def _matrix(tensor: torch.Tensor) -> tuple[ctypes.c_void_p, int]:
    return ctypes.c_void_p(tensor.data_ptr()), DTYPES[tensor.dtype]


@given(
    st.sampled_from(list(DTYPES)), st.integers(1, 40), st.integers(1, 90), st.integers(1, 3), st.integers(1, 5), keys
)
def test_same_bits(
    library: ctypes.CDLL, dtype: torch.dtype, rows: int, columns: int, n_out: int, n_in: int, key: int
) -> None:
    weight = data((rows, columns), dtype, key % 1000)
    source, kind = _matrix(weight)
    shape = ctypes.c_int64(rows), ctypes.c_int64(columns)
    for std in (0.0, 0.03):
        out = poisoned((n_out * rows, n_in * columns), dtype)
        copies = ctypes.c_int64(n_out), ctypes.c_int64(n_in)
        library.tile(_matrix(out)[0], source, kind, *shape, *copies, ctypes.c_double(std), ctypes.c_uint64(key))
        assert_same_bits(out, ops.tile(weight, n_out, n_in, noise_std=std or None, key=key))
    copy = poisoned((rows, columns), dtype)
    numbers = ctypes.c_double(0.2), ctypes.c_double(0.5), ctypes.c_uint64(key)
    library.replicate(_matrix(copy)[0], source, kind, *shape, *numbers)
    assert_same_bits(copy, ops.replicate([weight], [0], noise_alpha=0.2, noise_std=0.5, key=key)[0])
    assert library.mean_square(source, kind, *shape) == float(ops.mean_square([weight]))


def test_compiles_for_arm(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("there is no cross compiler for Arm (apt-get install g++-aarch64-linux-gnu)")
    compile_with(compiler, tmp_path / "kernels.so")
