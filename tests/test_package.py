"""The package itself: light to import, with the public functions at the top."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pytest

import growkernels
from growkernels.errors import GrowthError


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
