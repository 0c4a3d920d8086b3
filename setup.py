"""Builds the extension `growkernels._C`; without torch or a C++ compiler the package installs without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "growkernels" / "__init__.py").read_text())[1]
REMEDY = "Install GCC (tested with 12) or clang (apt-get install g++), and torch; then `pip install --no-build-isolation .`"


def skip(reason: object) -> None:
    """Say that the package goes without compiled kernels, and how to get them."""
    print(f"warning: growkernels is installed WITHOUT its compiled kernels: {reason}\n{REMEDY}", file=sys.stderr)


#: Bits must not depend on the machine: no fused multiply-add. Errno and traps only keep loops from vectorizing.
CXX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler", "-fvisibility=hidden", "--threads", "2"]
ARCHITECTURES = ("80", "90", "100")


def find_cuda() -> tuple[Path, list[str]] | None:
    """The CUDA toolkit and the flags of the architectures it compiles for; None without nvcc or if GROWKERNELS_CUDA=0.

    Whether there is a GPU does not matter: a build serves machines with and without one.
    """
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and Path(nvcc).resolve().parents[1], "/usr/local/cuda"]
    parts = "bin/nvcc", "include/cuda_runtime_api.h"
    home = next((Path(home) for home in homes if home and all((Path(home) / part).exists() for part in parts)), None)
    if home is None or os.environ.get("GROWKERNELS_CUDA") == "0":
        return None
    known = subprocess.run([home / "bin" / "nvcc", "--list-gpu-code"], capture_output=True, text=True).stdout.split()
    chosen = [number for number in ARCHITECTURES if f"sm_{number}" in known]
    if not chosen or not list(home.glob("**/libcudart_static.a")):
        print(f"warning: the CUDA toolkit in {home} is incomplete or too old; building for CPUs only", file=sys.stderr)
        return None
    flags = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in chosen]
    return home, [*flags, f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}"]


def build() -> dict[str, object]:
    """The arguments of `setup` that build the extension; none where GROWKERNELS_NO_EXTENSION is set."""
    if os.environ.get("GROWKERNELS_NO_EXTENSION"):
        return {}
    try:
        import torch
        from torch.utils import cpp_extension
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        skip(error)
        return {}

    class OptionalBuild(BuildExtension):
        """A build whose failure is a warning, except where building is all that was asked for."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                if "build_ext" in sys.argv:
                    raise
                skip(error)
                self.extensions = []

    def sources(*patterns: str) -> list[str]:
        return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / "csrc").rglob(pattern))

    cuda = find_cuda()
    macros = [("TORCH_TARGET_VERSION", "0x020b000000000000"), ("GK_VERSION", f'"{VERSION}"')]
    settings: dict[str, object] = {}
    if cuda:
        # A CPU build of torch does not look for CUDA by itself.
        cpp_extension.CUDA_HOME = str(cuda[0])
        macros.append(("GK_CUDA", "1"))
        settings = {
            "include_dirs": [str(cuda[0] / "include")],
            "library_dirs": sorted({str(path.parent) for path in cuda[0].glob("**/libcudart_static.a")}),
            "libraries": ["cudart_static", "rt", "dl", "pthread"],
        }
    extension = CppExtension(
        "growkernels._C",
        [path for path in sources("*.cpp", *(["*.cu"] if cuda else [])) if cuda or not path.endswith("machine.cpp")],
        depends=sources("*.h", "*.cuh"),
        define_macros=[*macros, ("GK_TORCH_VERSION", f'"{torch.__version__}"')],
        extra_compile_args={"cxx": CXX_FLAGS, "nvcc": [*NVCC_FLAGS, *(cuda[1] if cuda else [])]},
        py_limited_api=True,
        **settings,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": OptionalBuild},
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


setup(**build())
