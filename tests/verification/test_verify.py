"""Verification of a folder by its manifest: what is refused, what is found, what is said."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import growkernels
from growkernels import GrowthError
from growkernels.verification import checkpoint as verify_module
from tests.end_to_end.support import saved
from tests.verification.support import damaged


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("source"), "llama")


@pytest.fixture
def target(original: Path, tmp_path: Path) -> Path:
    growkernels.grow_checkpoint(original, tmp_path / "grown", width=2, no_verify=True)
    return tmp_path / "grown"


def test_a_good_growth_passes_and_says_what_was_checked(original: Path, target: Path) -> None:
    verification = growkernels.verify(original, target)
    assert verification.passed
    text = "\n".join(verification.lines())
    for words in (
        "those of the plan",
        "bit for bit",
        "copies summed back",
        "logits in float32",
        "within the bound 1.0e-04",
    ):
        assert words in text
    data = json.loads(json.dumps(verification.to_json()))
    assert data["passed"]
    assert data["logits"]["comparisons"][0]["error"] < 1e-5


def test_another_source_is_refused(target: Path, tmp_path: Path) -> None:
    other = saved(tmp_path, "llama", seed=1)
    with pytest.raises(GrowthError, match="is not the checkpoint that"):
        growkernels.verify(other, target)


def test_a_folder_without_manifest_is_refused(original: Path) -> None:
    with pytest.raises(GrowthError, match=r"growkernels\.json"):
        growkernels.verify(original, original)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("model.norm.weight"), "model.norm.weight: missing from the files"),
        (lambda t: t.update(extra=torch.ones(2)), "extra: in the files, not in the plan"),
        (
            lambda t: t.update({"model.norm.weight": torch.ones(63)}),
            "float32 [63] in the files, float32 [64] in the plan",
        ),
        (lambda t: t.update({"model.norm.weight": torch.ones(64).half()}), "float16 [64] in the files"),
    ],
    ids=("missing", "extra", "shape", "dtype"),
)
def test_files_that_are_not_the_plans(change, words: str, original: Path, target: Path) -> None:
    damaged(target, change)
    verification = growkernels.verify(original, target)
    assert not verification.passed
    assert words in verification.lines()[0]
    assert verification.slices is None


def test_a_changed_config_is_named(original: Path, target: Path) -> None:
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    verification = growkernels.verify(original, target)
    assert not verification.passed
    assert verification.problems[0].startswith("config.json: rms_norm_eps is 0.001, the plan says")


def test_a_changed_weight_is_named(original: Path, target: Path) -> None:
    def nudge(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] *= 1 + 2**-22

    damaged(target, nudge)
    verification = growkernels.verify(original, target)
    assert not verification.passed
    assert "model.layers.1.mlp.up_proj.weight[3, 5] is" in verification.slices.problem


def test_models_are_run_only_where_they_fit(original: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "free_memory", lambda: 400_000)
    skipped = growkernels.verify(original, target)
    assert skipped.passed
    assert skipped.logits is None
    assert "more than a quarter" in skipped.lines()[-1]
    assert growkernels.verify(original, target, logits=True).logits is not None
    assert growkernels.verify(original, target, logits=False).lines()[-1] == "outputs not compared: switched off"


def spoil_hows(**changes: object) -> Callable[[dict[str, Any]], None]:
    return lambda plan: [how["tile"].update(changes) for how in plan["hows"]].clear()


NONSENSE: dict[str, Callable[[dict[str, Any]], object]] = {
    "an axis that is not there": spoil_hows(sum_axis=7),
    "an axis that is text": spoil_hows(sum_axis="x"),
    "a divisor that is text": spoil_hows(divisor="2"),
    "a divisor of zero": spoil_hows(divisor=0),
    "negative segments": spoil_hows(axes=[[[-5, 64, 2, 1]], [[-7, 48, 2, 1]]]),
    "absurd segments": spoil_hows(axes=[[[10**18, 64, 2, 1]], [[10**18, 48, 2, 1]]]),
    "another source": lambda plan: plan["rules"][0].update(sources=["nobody"]),
    "a dtype of nobody": lambda plan: plan["rules"][0]["spec"].update(dtype="float3"),
    "a dtype that is a function": lambda plan: plan["rules"][0]["spec"].update(dtype="zeros"),
    "a shape of text": lambda plan: plan["rules"][0]["spec"].update(shape="64"),
    "a rule that is a number": lambda plan: plan.update(rules=[5]),
    "a form that is not there": lambda plan: plan["rules"][0].update(how=10**6),
    "claims that are text": lambda plan: plan.update(claims=["x"]),
    "layers that are text": lambda plan: plan.update(layer_index=5),
    "a key that nobody knows": lambda plan: plan.update(mystery=5),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_manifest_with_a_plan_of_nonsense_is_refused(original: Path, target: Path, case: str) -> None:
    """Its digest may be right: whoever wrote the plan made it too."""
    path = target / "growkernels.json"
    data = json.loads(path.read_text())
    NONSENSE[case](data["plan"])
    canonical = json.dumps(data["plan"], sort_keys=True, separators=(",", ":"))
    path.write_text(json.dumps({**data, "plan_digest": hashlib.sha256(canonical.encode()).hexdigest()}))
    said, passed = "", False
    try:
        passed = growkernels.verify(original, target, logits=False).passed
    except GrowthError as error:
        said = str(error)
    assert not passed and (not said or "growkernels.json" in said or "nobody" in said)
