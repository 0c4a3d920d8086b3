"""Building without what the extension needs: a warning with the remedy, and a package that installs all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert (tmp_path / "lib" / "growkernels" / "ops" / "tile" / "tile.py").exists()
    assert not list((tmp_path / "lib").rglob("*.so"))


def test_without_a_compiler(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    check(build(tmp_path, CXX=none, CC=none, GROWKERNELS_CUDA="0"), tmp_path)


def test_without_torch(tmp_path: Path) -> None:
    check(build(tmp_path, before="sys.modules['torch'] = None"), tmp_path)


@pytest.fixture
def toolchain(tmp_path: Path) -> dict[str, str]:
    """Compilers that only make the files they are asked for and note their arguments; an nvcc that knows what it should."""
    tools = tmp_path / "tools"
    compiler = f"""#!{sys.executable}
import os, pathlib, sys
arguments = sys.argv[1:]
with open({str(tmp_path / "calls")!r}, "a") as calls:
    calls.write(f"{{pathlib.Path(sys.argv[0]).name}} {{' '.join(arguments)}}\\n")
"""
    makes = 'pathlib.Path(arguments[arguments.index("-o") + 1]).touch() if "-o" in arguments else print("12.2.0")\n'
    nvcc = f"""
if "--list-gpu-code" in arguments:
    print("sm_75\\nsm_80\\nsm_90")
elif "--dryrun" in arguments:
    print("#$ TOP={tools}", file=sys.stderr)
elif "FAKE_ERROR" in os.environ:
    sys.exit(os.environ["FAKE_ERROR"])
"""
    for name, text in (("c++", compiler + makes), ("nvcc", compiler + nvcc + "else:\n    " + makes)):
        (tools / "bin").mkdir(parents=True, exist_ok=True)
        (tools / "bin" / name).write_text(text)
        (tools / "bin" / name).chmod(0o755)
    (tools / "lib64").mkdir()
    (tools / "lib64" / "libcudart_static.a").touch()
    cxx = str(tools / "bin" / "c++")
    return {"CUDA_HOME": str(tools), "CXX": cxx, "CC": cxx, "TORCH_DONT_CHECK_COMPILER_ABI": "1"}


def calls_of(tmp_path: Path, tool: str) -> list[str]:
    return [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith(f"{tool} ")]


def test_cuda_kernels_are_compiled_for_what_nvcc_knows_and_linked(tmp_path: Path, toolchain: dict[str, str]) -> None:
    result = build(tmp_path, **toolchain)
    assert result.returncode == 0 and "left out" not in result.stderr, result.stderr
    compiled = [call for call in calls_of(tmp_path, "nvcc") if " -c " in call]
    assert len(compiled) == len(list(ROOT.glob("csrc/**/*.cu"))) > 0
    for call in compiled:
        assert "code=sm_80" in call and "code=sm_90" in call and "code=compute_90" in call and "sm_100" not in call
        assert "-fmad=false" in call
    (link,) = (call for call in calls_of(tmp_path, "c++") if " -shared " in call)
    assert "cuda/replicate.o" in link and "machine.o" in link and "-lcudart_static" in link
    assert "-DGK_CUDA" in calls_of(tmp_path, "c++")[0] + calls_of(tmp_path, "c++")[1]
    # The next build compiles what is older than its source or a header, and nothing else.
    (tmp_path / "calls").write_text("")
    (stale,) = (tmp_path / "base").rglob("cuda/noise.o")
    os.utime(stale, (0, 0))
    assert build(tmp_path, **toolchain).returncode == 0
    (again,) = (call for call in calls_of(tmp_path, "nvcc") if " -c " in call)
    assert "noise.cu" in again


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"FAKE_ERROR": "unsupported GNU version! gcc versions later than 15 are not supported"}, "unsupported GNU"),
        ({"FAKE_ERROR": "", "GROWKERNELS_CUDA": "0"}, ""),
    ],
)
def test_where_nvcc_does_not_work_the_build_is_for_cpus(
    tmp_path: Path, toolchain: dict[str, str], changes: dict[str, str], reason: str
) -> None:
    result = build(tmp_path, **toolchain, **changes)
    assert result.returncode == 0, result.stderr
    assert reason in result.stderr
    assert ("\nwarning: " in result.stderr and "CUDA are left out; GROWKERNELS_CUDA=0" in result.stderr) == bool(reason)
    assert list((tmp_path / "lib").rglob("_C*.so"))
    assert "GK_CUDA" not in (tmp_path / "calls").read_text()
    assert "machine" not in (tmp_path / "calls").read_text() and "cudart" not in (tmp_path / "calls").read_text()
