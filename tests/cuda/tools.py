"""What nvcc made of the kernels: their registers and their machine code, without a GPU. Triton's wheel has the tools."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from growkernels.ops.backends.extension import EXTENSION

ROOT = Path(__file__).parents[2]
ARCHITECTURES = (80, 90, 100)
_TEMPORARY = TemporaryDirectory(prefix="growkernels-cubins-")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A compiled kernel. `stack`: bytes of local memory a thread; `sass`: its instructions in order, without predicates."""

    registers: int
    stack: int
    shared: int
    sass: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """How often each instruction occurs, by its full name (`LDG.E.128.CONSTANT`)."""
        return Counter(line.split()[0] for line in self.sass)

    def count(self, pattern: str) -> int:
        """How many instructions have names that match a regular expression as a whole."""
        return sum(number for name, number in self.counts.items() if re.fullmatch(pattern, name))


def _tool(name: str) -> str:
    spec = find_spec("triton")
    tool = Path(spec.origin).parent / "backends/nvidia/bin" / name if spec and spec.origin else Path(name)
    found = str(tool) if tool.exists() else shutil.which(name)
    if not found:
        pytest.skip(f"no {name}: it comes with triton's wheel and with the CUDA toolkit")
    return found


def _kernels_of(file: str | Path, arch: int) -> dict[str, Kernel]:
    """The kernels in a file by their mangled names."""
    command = [_tool("cuobjdump"), "-arch", f"sm_{arch}", file]
    usage, sass = (
        subprocess.run([*command, option], capture_output=True, text=True, check=True).stdout
        for option in ("-res-usage", "-sass")
    )
    code: dict[str, list[str]] = {}
    for line in sass.splitlines():
        if function := re.match(r"\s*Function : (\S+)", line):
            instructions = code.setdefault(function[1], [])
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@\S+\s+)?(\S[^;]*);", line):
            instructions.append(instruction[1].strip())
    found = re.findall(r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage)
    return {name: Kernel(int(r), int(stack), int(s), tuple(code[name])) for name, r, stack, s in found}


@cache
def built_kernels(arch: int) -> dict[str, Kernel]:
    """All kernels of the extension for one architecture; skips the test where it has none."""
    if EXTENSION is None or f"sm_{arch}" not in (EXTENSION.build_info()["cuda"] or "").split(", "):
        pytest.skip(
            f"the extension has no kernels for sm_{arch}: it was built without nvcc or by an older one, or not at all"
        )
    return _kernels_of(EXTENSION.__file__, arch)


def built_kernel(arch: int, *parts: str) -> Kernel:
    """The one kernel of the extension whose mangled name contains all `parts`."""
    found = [kernel for name, kernel in built_kernels(arch).items() if all(part in name for part in parts)]
    assert len(found) == 1, f"{len(found)} of {sorted(built_kernels(arch))} have {parts} in their names"
    return found[0]


@cache
def compiled(source: str, arch: int) -> dict[str, Kernel]:
    """The kernels of a piece of CUDA C++ that may include headers of csrc, compiled with the flags of the project."""
    nvcc = shutil.which("nvcc", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/local/cuda/bin")
    if not nvcc:
        pytest.skip("no nvcc")
    graph = ast.parse((ROOT / "csrc" / "build_graph.py").read_text())
    assignments = (node for node in graph.body if isinstance(node, ast.Assign))
    (flags,) = (ast.literal_eval(node.value) for node in assignments if node.targets[0].id == "NVCC_FLAGS")
    file = Path(_TEMPORARY.name) / f"{abs(hash(source))}.{arch}.cu"
    file.write_text(source)
    cubin = file.with_suffix(".cubin")
    command = [nvcc, *flags, f"-arch=sm_{arch}", "-cubin", "-I", ROOT / "csrc", file, "-o", cubin]
    subprocess.run(command, check=True)
    return _kernels_of(cubin, arch)
