"""Run pytest on an installed growkernels instead of the source tree, from a folder outside it.

Usage: `python -P tests/installed.py [--instrumented] ARGUMENTS OF PYTEST`, paths given from the top of the source tree. With
`--instrumented` the compiled libraries must be built with AddressSanitizer and UndefinedBehaviorSanitizer.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

import growkernels.ops  # imported before pytest puts the source tree first

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("__asan_init", "__ubsan_handle")


def main(arguments: list[str]) -> int | pytest.ExitCode:
    """Pytest's exit status."""
    found = Path(growkernels.__file__).parent
    if found == ROOT / "growkernels":
        sys.exit(f"{found} is the source tree; install the package, or name another folder in PYTHONPATH")
    if "--instrumented" in arguments:
        arguments.remove("--instrumented")
        for name in ("growkernels._C", "growkernels_emulated"):
            file = Path(import_module(name).__file__)
            if missing := [mark for mark in MARKS if mark.encode() not in file.read_bytes()]:
                sys.exit(f"{file} is not instrumented: it does not call {' or '.join(missing)}")
    paths = [str(ROOT / argument) if (ROOT / argument).exists() else argument for argument in arguments]
    return pytest.main(["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *paths])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
