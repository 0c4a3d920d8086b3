"""What every growth starts with: planned once, asked for before anything is opened, matrices where none are given."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import growkernels
from growkernels import growth
from growkernels.errors import GrowthError
from growkernels.growth import Growth
from tests.cli.support import save_tokenizer
from tests.families import make_model
from tests.live.support import assert_same_model

LIGO = {"depth": 2, "width": 2, "depth_operator": "ligo", "width_operator": "ligo"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    make_model("llama", vocab_size=100)[1].save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.mark.parametrize("fitted", [False, True])
def test_a_checkpoint_is_opened_planned_and_warned_of_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fitted: bool
) -> None:
    calls = Counter[str]()

    def counted(name: str) -> None:
        function = getattr(growth, name)

        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(growth, name, call)

    for name in ("open_source", "discover", "make_plan", "check_duplicates", "start_matrices"):
        counted(name)
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    fit = growkernels.Fit(tmp_path / "text.txt", steps=1, batch=1, length=8) if fitted else None
    options = LIGO | {"init_noise": 0.0}
    expected = growkernels.plan(source, **options).warnings
    calls.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        growkernels.grow_checkpoint(source, tmp_path / "grown", fit=fit, no_verify=True, **options)
    assert set(calls.values()) == {1} and len(calls) == 5
    assert expected
    for text in expected:
        (warning,) = [one for one in caught if str(one.message) == text]
        assert warning.filename == __file__


def test_options_are_refused_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(growth, "open_source", lambda name: pytest.fail("opened"))
    for call in (
        lambda **options: growkernels.plan("owner/model", **options),
        lambda **options: growkernels.grow_checkpoint("owner/model", tmp_path / "grown", **options),
        lambda **options: growkernels.load_grown("owner/model", **options),
        lambda **options: growkernels.LearnedGrowth("owner/model", **options),
    ):
        with pytest.raises(GrowthError, match=r"width is 1\.5"):
            call(width=1.5)


def test_a_dry_plan_of_learned_growth_is_carried_out_from_its_start(source: Path, tmp_path: Path) -> None:
    plan = growkernels.plan(source, **LIGO)
    assert plan.matrices is None
    wanted = growkernels.load_grown(source, **LIGO)
    assert_same_model(growkernels.load_grown(source, plan=plan), wanted)
    model = type(wanted).from_pretrained(source, dtype=torch.float32).eval()
    assert_same_model(growkernels.grow_model(model, plan=plan), wanted)


def test_a_growth_is_short_in_print(source: Path) -> None:
    opened = Growth.open(source, {"width": 2})
    assert repr(opened).startswith(f"Growth(Source({str(source)!r}, ")
