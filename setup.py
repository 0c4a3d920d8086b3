"""Builds the extension `growkernels._C`; without torch or a C++ compiler the package installs without it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "growkernels" / "__init__.py").read_text())[1]
REMEDY = "Install GCC 12 or later, or clang (apt-get install g++), and torch; then `pip install --no-build-isolation .`"


def skip(reason: object) -> None:
    """Say that the package goes without compiled kernels, and how to get them."""
    print(f"warning: growkernels is installed WITHOUT its compiled kernels: {reason}\n{REMEDY}", file=sys.stderr)


def build() -> dict[str, object]:
    """The arguments of `setup` that build the extension; none where GROWKERNELS_NO_EXTENSION is set."""
    if os.environ.get("GROWKERNELS_NO_EXTENSION"):
        return {}
    try:
        import torch
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

    extension = CppExtension(
        "growkernels._C",
        sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cpp")),
        depends=sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.h")),
        define_macros=[
            ("TORCH_TARGET_VERSION", "0x020b000000000000"),
            ("GK_VERSION", f'"{VERSION}"'),
            ("GK_TORCH_VERSION", f'"{torch.__version__}"'),
        ],
        # Bits must not depend on the machine: no fused multiply-add. Errno and traps only keep loops from vectorizing.
        extra_compile_args=[
            "-std=c++17",
            "-O3",
            "-g0",
            "-ffp-contract=off",
            "-fno-math-errno",
            "-fno-trapping-math",
            "-fvisibility=hidden",
            "-Wno-uninitialized",
            "-Wno-maybe-uninitialized",
        ],
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": OptionalBuild},
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


setup(**build())
