"""A fit trains in whatever mode of torch it is built, called or loaded, to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch

from growkernels import LearnedGrowth
from tests.families import make_model
from tests.learning.support import saved

BOTH = {"depth": 2, "width": 2}
MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "device meta": lambda: torch.device("meta"),
}


def batch() -> dict[str, torch.Tensor]:
    tokens = torch.arange(24, device="cpu")[None]
    return {"input_ids": tokens, "labels": tokens}


def trained(growth: LearnedGrowth, steps: int = 2) -> tuple[list[float], list[torch.Tensor]]:
    growth.fit([batch()] * steps, steps=steps)
    return growth.losses, [matrix.detach() for matrix in growth.matrices.values()]


def same(left: tuple[list[float], list[torch.Tensor]], right: tuple[list[float], list[torch.Tensor]]) -> None:
    assert left[0] == right[0]
    assert all(a.equal(b) for a, b in zip(left[1], right[1], strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("part", ["building", "fitting", "all"])
def test_built_and_fitted_in_a_mode(mode: str, part: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "llama")
    expected = trained(LearnedGrowth(path, **BOTH))
    with MODES[mode]() if part in ("building", "all") else nullcontext():
        growth = LearnedGrowth(path, **BOTH)
    with MODES[mode]() if part in ("fitting", "all") else nullcontext():
        same(trained(growth), expected)
        assert growth.materialise().matrices is not None
    after = LearnedGrowth(path, **BOTH)
    trained(after)
    with MODES[mode]():
        assert growth.loss(batch()) == after.loss(batch())


@pytest.mark.parametrize("mode", MODES)
def test_loaded_in_a_mode(mode: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "llama")
    expected = trained(LearnedGrowth(path, **BOTH), 3)
    growth = LearnedGrowth(path, **BOTH)
    growth.fit([batch()], steps=3)
    with MODES[mode]():
        growth.save(tmp_path / "state")
        loaded = LearnedGrowth.load(tmp_path / "state", path)
    same(trained(loaded, 3), expected)


def test_models_and_batches_of_inference_mode(tmp_path: Path) -> None:
    expected = trained(LearnedGrowth(make_model("llama")[1], **BOTH))
    with torch.inference_mode():
        model, given = make_model("llama")[1], batch()
    growth = LearnedGrowth(model, **BOTH)
    growth.fit([given] * 2, steps=2)
    same((growth.losses, [matrix.detach() for matrix in growth.matrices.values()]), expected)
