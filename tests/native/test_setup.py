"""The build: what ninja runs, how wheels are tagged, and that the package installs where something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"


def run(
    tmp_path: Path, *commands: str, before: str = "", tree: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run commands of setup.py in a source tree, everything they make being in `tmp_path`."""
    arguments = ["setup.py", "egg_info", "--egg-base", str(tmp_path), *commands]
    script = f"import sys, runpy\nsys.argv = {arguments}\n{before}\nrunpy.run_path('setup.py', run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=tree,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def build(tmp_path: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    folders = ["--build-base", str(tmp_path / "base"), "--build-lib", str(tmp_path / "lib")]
    return run(tmp_path, "build", *folders, before=before, **environment)


def check_without_kernels(result: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    assert result.returncode == 0, result.stderr
    assert "WITHOUT its compiled kernels" in result.stderr
    assert "apt-get install g++" in result.stderr
    assert (tmp_path / "lib" / "growkernels" / "ops" / "tile" / "tile.py").exists()
    assert not list((tmp_path / "lib").rglob("*.so"))


def test_without_a_compiler(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    stale = tmp_path / "lib" / "growkernels" / "_C.abi3.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    (stale.parent / "moved.py").touch()
    result = build(tmp_path, CXX=none)
    assert f"there is no C++ compiler '{none}'" in result.stderr
    check_without_kernels(result, tmp_path)
    assert not (stale.parent / "moved.py").exists()


def test_without_torch(tmp_path: Path) -> None:
    result = build(tmp_path, before="import site\nsys.modules['torch'] = None\nsite.getsitepackages = lambda: []")
    assert "no torch to compile against" in result.stderr
    check_without_kernels(result, tmp_path)


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
    makes = """
target, source = (pathlib.Path(arguments[arguments.index(name) + 1]) for name in ("-o", "-c" if "-c" in arguments else "-o"))
target.touch()
if "-MF" in arguments:
    header = os.environ["FAKE_HEADER"] if source.name == "noise.cu" else ""
    pathlib.Path(arguments[arguments.index("-MF") + 1]).write_text(f"{target}: {source} {header}")
"""
    nvcc = f"""
if "--list-gpu-code" in arguments:
    sys.exit(print("sm_75\\nsm_80\\nsm_90"))
elif "--dryrun" in arguments:
    sys.exit(print("#$ TOP={tools}", file=sys.stderr))
elif "FAKE_ERROR" in os.environ:
    sys.exit(os.environ["FAKE_ERROR"])
"""
    for name, text in (("c++", compiler + makes), ("nvcc", compiler + nvcc + makes)):
        (tools / "bin").mkdir(parents=True, exist_ok=True)
        (tools / "bin" / name).write_text(text)
        (tools / "bin" / name).chmod(0o755)
    (tools / "lib64").mkdir()
    for file in ("lib64/libcudart_static.a", "header.h"):
        (tools / file).touch()
    header = {"FAKE_HEADER": str(tools / "header.h")}
    return {"CUDA_HOME": str(tools), "CXX": str(tools / "bin" / "c++"), "GROWKERNELS_CUDA": "1", **header}


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
    assert "cuda/replicate.cu.o" in link and "machine.cpp.o" in link and "-lcudart_static" in link
    (module,) = (call for call in calls_of(tmp_path, "c++") if "csrc/module.cpp " in call)
    assert '-DGK_CUDA="sm_80, sm_90"' in module and "pybind11" in module and "torch/include" not in module
    ops = [call for call in calls_of(tmp_path, "c++") if " -c " in call and call != module]
    assert ops and all("torch/include" in call and "pybind11" not in call for call in ops)


def test_the_next_build_compiles_what_a_change_reaches_and_nothing_else(
    tmp_path: Path, toolchain: dict[str, str]
) -> None:
    assert build(tmp_path, **toolchain).returncode == 0
    (tmp_path / "calls").write_text("")
    assert build(tmp_path, **toolchain).returncode == 0
    assert [call for call in calls_of(tmp_path, "nvcc") if " -c " in call] == calls_of(tmp_path, "c++") == []
    # The fake compilers say that noise.cu, and nothing else, includes this header.
    os.utime(toolchain["FAKE_HEADER"])
    assert build(tmp_path, **toolchain).returncode == 0
    (again,) = (call for call in calls_of(tmp_path, "nvcc") if " -c " in call)
    assert "noise.cu" in again
    (link,) = calls_of(tmp_path, "c++")
    assert " -shared " in link


def test_a_build_in_place_removes_older_libraries(tmp_path: Path, toolchain: dict[str, str]) -> None:
    tree = tmp_path / "tree"
    for name in ("csrc", "growkernels"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("_C.abi3.so", "_C.cpython-39-x86_64-linux-gnu.so"):
        (tree / "growkernels" / name).touch()
    assert run(tmp_path, "build_ext", "--inplace", tree=tree, **toolchain).returncode == 0
    assert [path.name for path in (tree / "growkernels").glob("*.so")] == [f"_C{EXTENSION_SUFFIXES[0]}"]
    commands = json.loads((tree / "build" / "compile_commands.json").read_text())
    assert {Path(entry["file"]) for entry in commands} == {*tree.glob("csrc/**/*.cpp"), *tree.glob("csrc/**/*.cu")}
    # A build that fails leaves none: better no library than an old one.
    assert run(tmp_path, "build_ext", "--inplace", tree=tree, CXX=str(tmp_path / "none")).returncode != 0
    assert list((tree / "growkernels").glob("*.so")) == []


def test_flags_of_the_environment_are_honored(tmp_path: Path, toolchain: dict[str, str]) -> None:
    flags = {"CFLAGS": "-DOF_C=$HOME", "CXXFLAGS": "-O1 -DOF_CXX", "LDFLAGS": "-Wl,--of-linker", "MAX_JOBS": "1"}
    assert build(tmp_path, **toolchain, **flags).returncode == 0
    calls = calls_of(tmp_path, "c++")
    (link,) = (call for call in calls if " -shared " in call)
    assert "-Wl,--of-linker" in link and " -DOF_CXX " in link
    for call in calls:
        assert f" -DOF_C={os.environ['HOME']} -O1 -DOF_CXX " in call
        assert " -O1" in call.partition(" -O3 ")[2] or call == link  # the later one counts


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
    result = build(tmp_path, **toolchain | changes)
    assert result.returncode == 0, result.stderr
    assert reason in result.stdout + result.stderr
    assert ("\nwarning: " in result.stderr and "CUDA are left out; GROWKERNELS_CUDA=0" in result.stderr) == bool(reason)
    assert list((tmp_path / "lib").rglob("_C*.so"))
    calls = calls_of(tmp_path, "c++")
    # With an nvcc that fails there is a first try, whose order is ninja's.
    *_, module = (call for call in calls if "csrc/module.cpp " in call)
    (link,) = (call for call in calls if " -shared " in call)
    assert "GK_CUDA" not in module and "machine" not in link and "cudart" not in link


def wheel(tmp_path: Path, **environment: str) -> Path:
    """The wheel that a build makes."""
    folders = ["--bdist-dir", str(tmp_path / "tree"), "--dist-dir", str(tmp_path / "dist")]
    result = run(tmp_path, "build", "--build-base", str(tmp_path / "base"), "bdist_wheel", *folders, **environment)
    assert result.returncode == 0, result.stderr
    (made,) = (tmp_path / "dist").iterdir()
    return made


def test_a_wheel_with_kernels_is_for_one_python(tmp_path: Path, toolchain: dict[str, str]) -> None:
    made = wheel(tmp_path, **toolchain)
    assert f"-{TAG}-{TAG}-" in made.name and not made.name.endswith("-any.whl")
    names = ZipFile(made).namelist()
    (library,) = (name for name in names if name.endswith(".so"))
    assert library.startswith("growkernels/_C.") and "abi3" not in library
    assert {"growkernels/py.typed", "growkernels/_C.pyi", "growkernels/kernels/tile.py"} <= {*names}


def test_a_wheel_without_kernels_is_for_every_python(tmp_path: Path) -> None:
    made = wheel(tmp_path, CXX=str(tmp_path / "none"))
    assert made.name.endswith("-py3-none-any.whl")
    with ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        (description,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: true" in archive.read(description).decode()


def test_the_source_archive_holds_everything_that_is_tracked(tmp_path: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no git checkout")
    assert run(tmp_path, "sdist", "--dist-dir", str(tmp_path / "dist")).returncode == 0
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as opened:
        members = {member.name.partition("/")[2]: member for member in opened}
    assert {*tracked.stdout.splitlines()} - members.keys() == set()
    assert members["growkernels/kernels"].linkname == "../kernels"
    assert not [name for name in members if name.endswith((".so", ".pyc"))]
