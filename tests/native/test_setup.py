"""Building without what the extension needs: a warning with the remedy, and a package that installs all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(tmp_path: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["setup.py", "build", "--build-base", str(tmp_path / "base"), "--build-lib", str(tmp_path / "lib")]
    arguments += ["egg_info", "--egg-base", str(tmp_path)]
    script = f"import sys, runpy\nsys.argv = {arguments}\n{before}\nrunpy.run_path('setup.py', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check(result: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    assert result.returncode == 0, result.stderr
    assert "WITHOUT its compiled kernels" in result.stderr
    assert "apt-get install g++" in result.stderr
    assert (tmp_path / "lib" / "growkernels" / "ops" / "tile.py").exists()
    assert not list((tmp_path / "lib").rglob("*.so"))


def test_without_a_compiler(tmp_path: Path) -> None:
    check(build(tmp_path, CXX=str(tmp_path / "none"), CC=str(tmp_path / "none")), tmp_path)


def test_without_torch(tmp_path: Path) -> None:
    check(build(tmp_path, before="sys.modules['torch'] = None"), tmp_path)
