"""The manifest: what is written is read back, and what is damaged, altered or too new is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import growkernels
from growkernels.errors import GrowthError
from growkernels.executors import open_source, read_manifest, write_manifest
from growkernels.plans import Plan
from growkernels.plans.format1 import upgraded
from growkernels.verification.checkpoint import verify
from tests.executors.support import grow, plan, tensors, write_source


def test_round_trip(tmp_path: Path) -> None:
    done = grow(write_source(tmp_path / "src"), tmp_path / "dst", plan(snr_db=10.0))
    manifest = read_manifest(tmp_path / "dst")
    assert manifest.plan == done and manifest.plan_digest == done.digest()
    assert manifest.source == str(tmp_path / "src")
    assert manifest.source_digest == open_source(tmp_path / "src").digest()
    assert manifest.verification is None
    assert manifest.versions["growkernels"] == growkernels.__version__
    assert manifest.versions["torch"] == torch.__version__
    assert set(manifest.versions) == {"growkernels", "torch", "transformers", "python"}
    stored = json.loads((tmp_path / "dst" / "growkernels.json").read_text())
    assert stored["seed"] == done.seed and stored["noise_version"] == 1
    assert all(rule.how.noise.std > 0 for rule in manifest.plan.rules if rule.how.noise)


def test_verification_is_kept(tmp_path: Path) -> None:
    done = grow(write_source(tmp_path / "src"), tmp_path / "dst")
    write_manifest(tmp_path / "dst", open_source(tmp_path / "src"), done, {"passed": True})
    assert read_manifest(tmp_path / "dst").verification == {"passed": True}


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    def edited(text: str) -> str:
        data = json.loads(text)
        change(data)
        return json.dumps(data)

    return edited


DAMAGE: dict[str, tuple[Callable[[str], str], str]] = {
    "cut short": (lambda text: text[: len(text) // 2], "is damaged: JSONDecodeError"),
    "a list": (lambda text: "[1]", "is damaged: TypeError"),
    "no plan": (edit(lambda data: data.pop("plan")), "is damaged: KeyError 'plan'"),
    "no digest": (edit(lambda data: data.pop("plan_digest")), "is damaged: KeyError 'plan_digest'"),
    "a rule without axes": (
        edit(lambda data: data["plan"]["hows"][0]["tile"].pop("axes")),
        "is damaged: KeyError 'axes'",
    ),
    "a rule without a form": (edit(lambda data: data["plan"]["hows"].clear()), "is damaged: IndexError"),
    "rules are numbers": (edit(lambda data: data["plan"].update(rules=[1])), "is damaged: TypeError"),
    "another seed": (edit(lambda data: data["plan"].update(seed=1)), "was altered: its plan does not have the digest"),
    "brackets": (lambda text: "[" * 100_000, "is damaged: RecursionError"),
    "no source digest": (
        edit(lambda data: data.update(source_digest=None)),
        "is damaged: TypeError source_digest is a",
    ),
    "a number for it": (
        edit(lambda data: data.update(source_digest=5)),
        "is damaged: TypeError source_digest is a int",
    ),
    "versions are text": (edit(lambda data: data.update(versions="x")), "is damaged: TypeError versions is a str"),
    "a fit that is a list": (edit(lambda data: data.update(fit=[1])), "is damaged: TypeError fit is a list"),
    "newer format": (
        edit(lambda data: data.update(format=3)),
        "has format 3 and noise version 1; growkernels .* reads formats 1 and 2",
    ),
    "newer noise": (edit(lambda data: data.update(noise_version=2)), "Use the version that wrote it: {'growkernels'"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    grow(write_source(tmp_path / "src"), tmp_path / "dst")
    path = tmp_path / "dst" / "growkernels.json"
    spoil, message = DAMAGE[case]
    path.write_text(spoil(path.read_text()))
    with pytest.raises(GrowthError, match=message):
        read_manifest(tmp_path / "dst")


def test_a_folder_without_one(tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match=r"has no growkernels\.json: it was not grown by growkernels"):
        read_manifest(write_source(tmp_path / "src"))


def exact() -> dict[str, torch.Tensor]:
    """The source of the manifest of format 1 beside this file: integers over a power of two."""
    return {
        name: (torch.arange(value.numel()) % 251 - 125).reshape(value.shape) / 64
        if value.is_floating_point()
        else value
        for name, value in tensors().items()
    }


def test_a_manifest_of_format_1_still_verifies(tmp_path: Path) -> None:
    """What an older version wrote beside a checkpoint: its plan grows the same bits, and `verify` reads it."""
    old = json.loads((Path(__file__).parent / "manifest-format-1.json").read_text())
    write_source(tmp_path / "src", exact())
    old["source_digest"] = open_source(tmp_path / "src").digest()  # not that of this library's safetensors header
    grow(tmp_path / "src", tmp_path / "dst", Plan.from_json(upgraded(old["plan"])))
    path = tmp_path / "dst" / "growkernels.json"
    path.write_text(json.dumps(old))
    plan = read_manifest(tmp_path / "dst").plan
    assert [rule.how.noise.std is not None for rule in plan.rules if rule.how.noise] == [True] * 3
    assert {rule.target for rule in plan.rules if rule.how.diagonal} == {"layers.0.diagonal.weight"}
    check = verify(tmp_path / "src", tmp_path / "dst", logits=False)
    assert check.passed and check.slices.folded_rows == 4 * 3, check.lines()
    old["plan"]["rules"][0]["divisor"] = 2.0
    path.write_text(json.dumps(old))
    with pytest.raises(GrowthError, match="was altered: its plan does not have the digest"):
        read_manifest(tmp_path / "dst")
