"""What Triton's compiler makes of a kernel, seen without a GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from growkernels.kernels.table import EXACT

_TOOL = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


@dataclass(frozen=True)
class Compiled:
    """PTX, counts of SASS instructions by full name (`LDG.E.128`), cuobjdump's resource usage, bytes of shared memory."""

    ptx: str
    sass: Counter[str]
    usage: str
    shared: int

    def count(self, family: str) -> int:
        """Instructions of a family, such as `LDG`."""
        return sum(number for name, number in self.sass.items() if name.split(".")[0] == family)

    def assert_in_registers(self) -> None:
        """Nothing lives on a stack or was spilled to one."""
        assert self.count("STL") == self.count("LDL") == 0
        assert re.search(r"STACK:0 .*LOCAL:0 ", self.usage), self.usage


def compiled(
    kernel: triton.JITFunction,
    arch: int,
    signature: dict[str, str],
    num_warps: int = 4,
    options: Mapping[str, Any] = EXACT,
    **constants: Any,
) -> Compiled:
    """A kernel for sm_`arch`. signature: types of the parameters that are no constants; pointers are to whole vectors."""
    types = {name: "constexpr" if name in constants else signature[name] for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, type in enumerate(types.values()) if type.startswith("*")}
    source = ASTSource(kernel, types, constants, aligned)
    built = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={**options, "num_warps": num_warps})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        sass, usage = (
            subprocess.run([_TOOL, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-sass", "-res-usage")
        )
    return Compiled(built.asm["ptx"], Counter(_INSTRUCTION.findall(sass)), usage, built.metadata.shared)
