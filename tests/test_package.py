"""The package itself: light to import, with the public functions at the top."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import growkernels
import growkernels.ops
from growkernels.errors import GrowthError

ROOT = Path(__file__).parents[1]


def test_plan_and_verify_are_plain_functions(tmp_path) -> None:
    assert all(isinstance(f, FunctionType) for f in (growkernels.plan, growkernels.verify, growkernels.grow_checkpoint))
    missing = tmp_path / "missing"
    with pytest.raises(GrowthError, match="missing"):
        growkernels.plan(missing, width=2)
    with pytest.raises(GrowthError, match="missing"):
        growkernels.grow_checkpoint(missing, tmp_path / "grown", width=2)
    with pytest.raises(GrowthError, match="missing"):
        growkernels.verify(missing, missing)


def test_every_public_name_is_there() -> None:
    for name in growkernels.__all__:
        assert getattr(growkernels, name) is not None
    assert growkernels.Fit("text.txt", steps=3).steps == 3
    assert growkernels.GrowthOptions(width=2).width == 2


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = """
import sys
import growkernels
growkernels.GrowthOptions(depth=2)
slow = {"torch", "transformers", "numpy", "typer"} & set(sys.modules)
assert not slow, slow
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        growkernels.nonsense  # noqa: B018
    assert {"plan", "verify", "ops", "grow_checkpoint"} <= set(dir(growkernels))


def test_every_import_is_declared() -> None:
    """What is imported comes with Python, is required, or belongs to an extra and is asked for before it is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["plot"]]
    modules = {"pyyaml": "yaml"}
    packages = [re.match(r"[\w-]+", need)[0] for need in needs]
    declared = {modules.get(package, package) for package in packages} | {"triton", "growkernels"}
    files = [*(ROOT / "growkernels").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert len(imported) > 50
    assert {name.partition(".")[0] for name in imported} - declared - sys.stdlib_module_names == set()


#: Without the finder of an editable install, which knows where the package is.
BARE = """
import os, sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
os.environ["TRITON_INTERPRET"] = "1"
import torch
from growkernels import kernels, ops
weight = torch.arange(1.0, 13.0).view(3, 4)
assert ops.tile(weight, 2, 2, backend="triton").equal(ops.tile(weight, 2, 2, backend="eager"))
print(kernels.__file__)
"""


def test_triton_kernels_run_in_a_bare_source_tree(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    for name in ("growkernels", "kernels"):
        ignored = shutil.ignore_patterns("*.so", "__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    command = [sys.executable, "-W", "ignore", "-c", BARE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path / 'growkernels' / 'kernels' / '__init__.py'}\n", done.stderr


def test_one_file_asks_torch_cuda() -> None:
    files = [*(ROOT / "growkernels").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]
    assert [file.name for file in files if "torch.cuda" in file.read_text()] == ["devices.py"]


@pytest.mark.parametrize("module", [growkernels, growkernels.ops], ids=lambda module: module.__name__)
def test_public_functions_document_their_arguments_errors_and_use(module: ModuleType) -> None:
    for name in module.__all__:
        function = getattr(module, name)
        if inspect.isfunction(function):
            missing = [part for part in ("Args:", "Raises:", "Example") if part not in (inspect.getdoc(function) or "")]
            assert not missing, (name, missing)
