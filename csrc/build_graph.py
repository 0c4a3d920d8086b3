"""The ninja graph of the compiled libraries: which sources, which flags, which compilers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pybind11
from ninja import ninja_syntax

ROOT = Path(__file__).resolve().parents[1]
#: Bits must not depend on the machine: no fused multiply-add. Errno and traps only keep loops from vectorizing. -fwrapv is
#: what Python's own flags gave when the kernels were measured.
CXX_FLAGS = ["-std=c++17", "-O3", "-Wall", "-DNDEBUG", "-fwrapv", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
CXX_FLAGS += ["-fno-math-errno", "-fno-trapping-math", "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xcompiler", "-fPIC,-fvisibility=hidden", "--threads", "2"]
ARCHITECTURES = ("80", "90", "100")
#: The first torch whose stable ABI has what the ops call: they run with it and all later ones.
STABLE_ABI = "-DTORCH_TARGET_VERSION=0x020b000000000000"
#: Sources of every library of ops; of the extension, what CUDA adds to it, and sources of the tests' emulated GPU.
CHECKS = ("csrc/arguments.cpp", "csrc/versions.cpp", "csrc/common/*.cpp")
EXTENSION = (*CHECKS, "csrc/cpu/*.cpp", "csrc/ops_cpu.cpp", "csrc/module.cpp")
FOR_CUDA = ("csrc/cuda/*.cpp", "csrc/cuda/*.cu", "csrc/ops_cuda.cpp")
EMULATED = (*CHECKS, "csrc/cuda/[!m]*.cpp", "tests/emulated/*.cpp")


class Cuda(NamedTuple):
    """A CUDA toolkit: the command that compiles for `architectures`, and the folder of its static runtime."""

    nvcc: list[str]
    architectures: str
    libraries: str


def find_compiler() -> str:
    """The command of the C++ compiler: CXX, or `c++`. Raises RuntimeError if there is none."""
    compiler = os.environ.get("CXX") or "c++"
    if not shutil.which(shlex.split(compiler)[0]):
        raise RuntimeError(f"there is no C++ compiler {compiler!r}")
    return compiler


def find_cuda() -> Cuda | None:
    """The CUDA toolkit; None without one, or with GROWKERNELS_CUDA=0. Raises OSError or RuntimeError if it does not work.

    Whether there is a GPU does not matter: a build serves machines with and without one.
    """
    home, cxx = os.environ.get("CUDA_HOME"), os.environ.get("CXX")
    places = [*([f"{home}/bin"] if home else []), os.environ.get("PATH", ""), "/usr/local/cuda/bin"]
    nvcc = shutil.which("nvcc", path=os.pathsep.join(places))
    if not nvcc or os.environ.get("GROWKERNELS_CUDA") == "0":
        return None
    known, trial = (
        subprocess.run([nvcc, *arguments], check=False, capture_output=True, text=True)
        for arguments in (["--list-gpu-code"], ["--dryrun", "none.cu"])
    )
    chosen = [number for number in ARCHITECTURES if f"sm_{number}" in known.stdout.split()]
    if not chosen:
        raise RuntimeError(f"{known.stderr}it knows none of the architectures {', '.join(ARCHITECTURES)}")
    homes = re.findall(r"^#\$ TOP=(.+)$", trial.stderr, re.M)
    folders = re.findall(r'"-L([^"]+)"', trial.stderr) + [f"{top}/{name}" for top in homes for name in ("lib64", "lib")]
    libraries = [name for name in folders if (Path(name) / "libcudart_static.a").exists()]
    if not libraries:
        raise RuntimeError(f"libcudart_static.a is in none of {folders}")
    gencode = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in chosen]
    gencode.append(f"-gencode=arch=compute_{chosen[-1]},code=compute_{chosen[-1]}")  # for GPUs to come
    host = ["-ccbin", cxx] if cxx and shutil.which(cxx) else []
    return Cuda([nvcc, *NVCC_FLAGS, *host, *gencode], ", ".join(f"sm_{number}" for number in chosen), libraries[0])


def write_graph(path: Path, version: str, compiler: str, torch: Path, cuda: Cuda | None) -> None:
    """Write the graph of the extension, and of the tests' emulated GPU, which is built on request.

    Args:
        path: the file `build.ninja`.
        version: of growkernels, for the extension to report.
        compiler: the command of the C++ compiler.
        torch: the folder of torch.
        cuda: the toolkit that compiles the kernels for GPUs; None leaves them out.

    Honors CFLAGS, CXXFLAGS and LDFLAGS.
    """
    torch_version = re.search("__version__ = '(.+)'", (torch / "version.py").read_text())[1]
    facts = {"VERSION": version, "TORCH_VERSION": torch_version} | ({"CUDA": cuda.architectures} if cuda else {})
    # The ops never see pybind11, and the modules never see torch, which ships an older pybind11.
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    of_modules = [*includes, *(f'-DGK_{name}="{value}"' for name, value in facts.items())]
    of_ops = [f"-I{torch / 'include'}", STABLE_ABI]
    of_tests = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'emulated'}"]
    libraries = [f"-L{torch / 'lib'}", "-ltorch_cpu", "-lc10"]
    if sys.platform == "darwin":
        libraries += ["-undefined", "dynamic_lookup"]
    with path.open("w") as file:
        graph = ninja_syntax.Writer(file, width=1 << 16)
        for name in ("CFLAGS", "CXXFLAGS", "LDFLAGS"):
            graph.variable(name, os.environ.get(name, "").replace("$", "$$"))
        one, tracked = "-c $in -o $out -MMD -MF $out.d", {"depfile": "$out.d", "deps": "gcc"}
        graph.rule("cxx", f"{compiler} {_words(*CXX_FLAGS)} $flags $CFLAGS $CXXFLAGS {one}", "C++ $in", **tracked)
        linked = "-shared $CFLAGS $CXXFLAGS $LDFLAGS -o $out $in $libraries"
        graph.rule("link", f"{compiler} {linked}", "link $out")
        if cuda:
            graph.rule("nvcc", f"{_words(*cuda.nvcc)} {one}", "nvcc $in", **tracked)

        objects: dict[Path, list[str]] = {}

        def library(target: str, patterns: Iterable[str], libraries: Iterable[str]) -> None:
            """Link the objects of all sources that match a pattern."""
            sources = [source for pattern in patterns for source in sorted(ROOT.glob(pattern))]
            for source in sources:
                if source not in objects:
                    rule = "nvcc" if source.suffix == ".cu" else "cxx"
                    flags = of_modules if source.name == "module.cpp" else of_ops
                    variables = {"flags": _words(*flags, *(of_tests if source.match("tests/*/*") else ()))}
                    objects[source] = graph.build(
                        f"{source.relative_to(ROOT)}.o", rule, str(source), variables=variables
                    )
            inputs = [one for source in sources for one in objects[source]]
            graph.build(target, "link", inputs, variables={"libraries": _words(*libraries)})

        cudart = [f"-L{cuda.libraries}", "-lcudart_static", "-lrt", "-ldl", "-lpthread"] if cuda else []
        library("_C.so", EXTENSION + (FOR_CUDA if cuda else ()), [*libraries, *cudart])
        library("growkernels_emulated.so", EMULATED, libraries)


def _words(*arguments: str) -> str:
    """Arguments of a shell's command in a ninja file."""
    return shlex.join(arguments).replace("$", "$$")
