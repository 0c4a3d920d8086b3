"""The seed of a growth of what was grown: not the same normals again, unless that is asked for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import growkernels
from growkernels import GrowthError, LearnedGrowth
from growkernels.executors.files.manifest import MANIFEST, read_manifest
from tests.families import make_model

NOISY = {"width": 2, "noise_snr_db": 20.0}
SAID = "the source was grown with seed {} itself; seed {} is taken"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and the same grown with seed 6."""
    folder = tmp_path_factory.mktemp("seeds")
    make_model("llama")[1].save_pretrained(folder / "small")
    growkernels.grow_checkpoint(folder / "small", folder / "grown", seed=6, **NOISY)
    return folder


def said(plan: growkernels.Plan) -> list[str]:
    return [text for text in plan.warnings if "the source was grown with seed" in text]


def test_a_grown_source_gives_the_next_seed(folders: Path, tmp_path: Path) -> None:
    planned = growkernels.plan(folders / "grown", **NOISY)
    assert planned.seed == planned.options["seed"] == 7
    assert [text.startswith(SAID.format(6, 7)) for text in said(planned)] == [True]
    assert planned.rules == growkernels.plan(folders / "grown", seed=7, **NOISY).rules
    with pytest.warns(UserWarning, match=SAID.format(6, 7)):
        report = growkernels.grow_checkpoint(folders / "grown", tmp_path / "again", **NOISY)
    assert read_manifest(tmp_path / "again").plan.seed == report.plan.seed == 7
    assert SAID.format(6, 7) in json.dumps(report.to_json())


@pytest.mark.parametrize("seed", [0, 6, 9])
def test_an_explicit_seed_is_taken(folders: Path, seed: int) -> None:
    planned = growkernels.plan(folders / "grown", seed=seed, **NOISY)
    assert planned.seed == seed
    assert said(planned) == []


def test_sources_that_were_not_grown_have_seed_0(folders: Path) -> None:
    planned = growkernels.plan(folders / "small", **NOISY)
    assert planned.seed == 0
    assert said(planned) == []


def test_where_nothing_is_drawn_nothing_is_said(folders: Path) -> None:
    assert said(growkernels.plan(folders / "grown", depth=2)) == []


def test_the_last_seed_is_followed_by_the_first(folders: Path, tmp_path: Path) -> None:
    growkernels.grow_checkpoint(folders / "small", tmp_path / "last", seed=2**64 - 1, no_verify=True, **NOISY)
    assert growkernels.plan(tmp_path / "last", **NOISY).seed == 0


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[[[", '{"seed": "a"}', '{"seed": -1}', '{"seed": true}', '{"seed": 1e3}']
)
def test_a_manifest_without_a_seed_is_an_error(text: str, tmp_path: Path) -> None:
    make_model("llama")[1].save_pretrained(tmp_path)
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(GrowthError, match=r"is damaged.*choose a seed"):
        growkernels.plan(tmp_path, **NOISY)
    assert growkernels.plan(tmp_path, seed=3, **NOISY).seed == 3


def grown_twice(model: Any, **second: Any) -> list[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        growkernels.grow_model(model, **NOISY)
        growkernels.grow_model(model, **NOISY, **second)
    return [parameter.detach() for parameter in model.parameters()]


def test_a_live_model_remembers_the_seed_of_its_last_growth() -> None:
    first, second, third = (make_model("llama")[1] for _ in range(3))
    found, next_one, again = grown_twice(first), grown_twice(second, seed=1), grown_twice(third, seed=0)
    assert all(a.equal(b) for a, b in zip(found, next_one, strict=True))
    assert not all(a.equal(b) for a, b in zip(found, again, strict=True))
    with pytest.warns(UserWarning, match=SAID.format(1, 2)):
        growkernels.grow_model(first, **NOISY)


@pytest.mark.parametrize("way", ["stock", "load_grown"])
def test_a_model_loaded_from_a_grown_checkpoint_goes_on_from_its_seed(way: str, folders: Path) -> None:
    if way == "stock":
        model = AutoModelForCausalLM.from_pretrained(folders / "grown")
    else:
        model = growkernels.load_grown(folders / "small", seed=6, **NOISY)
    with pytest.warns(UserWarning, match=SAID.format(6, 7)):
        growkernels.grow_model(model, **NOISY)


def test_learned_growth_too(folders: Path) -> None:
    with pytest.warns(UserWarning, match=SAID.format(6, 7)):
        growth = LearnedGrowth(folders / "grown", width=2)
    assert growth.materialise().seed == 7
