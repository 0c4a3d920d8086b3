"""The package itself: light to import, with the public functions at the top."""

from __future__ import annotations

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


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        growkernels.nonsense  # noqa: B018
    assert {"plan", "verify", "ops", "grow_checkpoint"} <= set(dir(growkernels))
