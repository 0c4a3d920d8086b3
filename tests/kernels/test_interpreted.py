"""The Triton kernels have the bits of the reference: tests/kernels/interpreted, in a process with Triton's interpreter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("marked", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_interpreted_kernels(marked: str) -> None:
    folder = Path(__file__).parent / "interpreted"
    # An overflow to infinity and a NaN are what some inputs are made for; NumPy warns of them.
    options = ["-W", "ignore::RuntimeWarning", "-m", "pytest", "-p", "no:cacheprovider", "-m", marked]
    command = [sys.executable, *options, str(folder)]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=folder.parents[2], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout[-2000:]
