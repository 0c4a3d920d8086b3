"""Builds the extension `growkernels._C`; without torch or a C++ compiler the package installs without it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "growkernels" / "__init__.py").read_text())[1]
REMEDY = (
    "Install GCC (tested with 12) or clang (apt-get install g++), and torch; then `pip install --no-build-isolation .`"
)


def skip(reason: object) -> None:
    """Say that the package goes without compiled kernels, and how to get them."""
    print(f"warning: growkernels is installed WITHOUT its compiled kernels: {reason}\n{REMEDY}", file=sys.stderr)


#: Bits must not depend on the machine: no fused multiply-add. Errno and traps only keep loops from vectorizing.
CXX_FLAGS = ["-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
CXX_FLAGS += ["-fvisibility=hidden", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden", "--threads", "2"]
ARCHITECTURES = ("80", "90", "100")


def find_nvcc() -> Path | None:
    """The CUDA compiler; None without one, or with GROWKERNELS_CUDA=0."""
    home = os.environ.get("CUDA_HOME")
    places = [*([f"{home}/bin"] if home else []), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(places))
    return Path(nvcc) if nvcc and os.environ.get("GROWKERNELS_CUDA") != "0" else None


def cuda_settings(nvcc: Path, folder: Path) -> dict[str, list]:
    """Compile the CUDA kernels into `folder`, and return what the extension needs to take them in.

    Whether there is a GPU does not matter: a build serves machines with and without one. torch's own way to compile CUDA
    asks for one, wants the CUDA version that torch was built with, and beside a torch for CPUs does not see that a header
    changed. Raises OSError or RuntimeError where the toolkit does not work.
    """

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([nvcc, *map(str, arguments)], check=False, capture_output=True, text=True)

    known = run("--list-gpu-code")
    chosen = [number for number in ARCHITECTURES if f"sm_{number}" in known.stdout.split()]
    if not chosen:
        raise RuntimeError(f"{known.stderr}it knows none of the architectures {', '.join(ARCHITECTURES)}")
    trial = run("--dryrun", "none.cu").stderr
    homes = re.findall(r"^#\$ TOP=(.+)$", trial, re.M)
    folders = [*re.findall(r'"-L([^"]+)"', trial), *(f"{home}/{name}" for home in homes for name in ("lib64", "lib"))]
    libraries = [name for name in folders if (Path(name) / "libcudart_static.a").exists()]
    if not libraries:
        raise RuntimeError(f"libcudart_static.a is in none of {folders}")
    gencode = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in chosen]
    gencode.append(f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}")  # for GPUs to come
    host = ["-ccbin", os.environ["CXX"]] if os.environ.get("CXX") else []
    headers = [path for pattern in ("*.h", "*.cuh") for path in (ROOT / "csrc").rglob(pattern)]
    folder.mkdir(parents=True, exist_ok=True)

    def compiled(source: Path) -> str:
        target, record = folder / f"{source.stem}.o", folder / f"{source.stem}.command"
        command = [*NVCC_FLAGS, *host, *gencode, "-c", str(source), "-o", str(target)]
        made = target.stat().st_mtime if target.exists() and record.exists() else 0
        if made <= max(path.stat().st_mtime for path in (source, *headers)) or record.read_text() != str(command):
            record.unlink(missing_ok=True)
            done = run(*command)
            if done.returncode:
                raise RuntimeError(f"{done.stdout}{done.stderr}{source.name} does not compile")
            record.write_text(str(command))
        return str(target)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count())) as pool:
        objects = list(pool.map(compiled, sorted((ROOT / "csrc").rglob("*.cu"))))
    return {
        "define_macros": [("GK_CUDA", f'"{", ".join(f"sm_{number}" for number in chosen)}"')],
        "sources": ["csrc/cuda/machine.cpp"],
        "extra_objects": objects,
        "depends": objects,
        "library_dirs": libraries[:1],
        "libraries": ["cudart_static", "rt", "dl", "pthread"],
    }


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

        def build_extension(self, extension: CppExtension) -> None:
            if nvcc := find_nvcc():
                try:
                    for name, values in cuda_settings(nvcc, Path(self.build_temp) / "cuda").items():
                        getattr(extension, name).extend(values)
                except (OSError, RuntimeError) as error:
                    left_out = f"warning: {nvcc} does not work, so the kernels for CUDA are left out"
                    print(f"{error}\n{left_out}; GROWKERNELS_CUDA=0 does so without trying", file=sys.stderr)
            super().build_extension(extension)

    def sources(*patterns: str) -> list[str]:
        return sorted(str(path.relative_to(ROOT)) for pattern in patterns for path in (ROOT / "csrc").rglob(pattern))

    macros = {"TORCH_TARGET_VERSION": "0x020b000000000000"}
    macros |= {"GK_VERSION": f'"{VERSION}"', "GK_TORCH_VERSION": f'"{torch.__version__}"'}
    extension = CppExtension(
        "growkernels._C",
        [path for path in sources("*.cpp") if not path.endswith("machine.cpp")],
        depends=sources("*.h", "*.cuh", "*.cu"),
        define_macros=list(macros.items()),
        extra_compile_args={"cxx": CXX_FLAGS},
        py_limited_api=True,
    )
    return {
        "ext_modules": [extension],
        "cmdclass": {"build_ext": OptionalBuild},
        "options": {"bdist_wheel": {"py_limited_api": "cp311"}},
    }


setup(**build())
