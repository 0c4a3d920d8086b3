"""Growth in several hops is the same as one call after the other, and leaves nothing but the last folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import growkernels
from growkernels.errors import GrowthError
from growkernels.executors import read_manifest
from tests.end_to_end.support import saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

HOPS: list[dict[str, Any]] = [{"depth": 2}, {"width": 2}, {"ffn": 2}]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("seed", [{}, {"seed": 2**64 - 2}])
def test_the_files_are_those_of_single_calls(seed: dict[str, int], tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    out = tmp_path / "out"
    out.mkdir()
    report = growkernels.grow_checkpoint(source, out / "hops", hops=HOPS, **seed)
    assert report.verification is not None and report.verification.passed
    assert (report.source, report.target) == (str(source), out / "hops")
    assert [path.name for path in out.iterdir()] == ["hops"]
    seeds = [(seed.get("seed", 0) + number) % 2**64 for number in range(3)]
    before, single = source, [tmp_path / f"single-{number}" for number in range(3)]
    for hop, target, number in zip(HOPS, single, seeds, strict=True):
        growkernels.grow_checkpoint(before, target, seed=number, **hop)
        before = target
    assert names(out / "hops") == names(single[-1])
    for name in ("model.safetensors", "config.json"):
        assert (out / "hops" / name).read_bytes() == (single[-1] / name).read_bytes()
    manifest = read_manifest(out / "hops")
    manifests = [read_manifest(folder) for folder in single]
    assert manifest.hops is not None
    assert (manifest.source, manifest.source_digest) == (str(source), manifests[0].source_digest)
    assert [hop["plan_digest"] for hop in manifest.hops] == [one.plan_digest for one in manifests]
    assert [hop["options"] for hop in manifest.hops] == [
        {**hop, "seed": number} for hop, number in zip(HOPS, seeds, strict=True)
    ]
    assert all(hop["verification"]["passed"] for hop in manifest.hops)
    # The source of the last hop verifies it; with the original one, the message says how to make that.
    with pytest.raises(
        GrowthError, match=r"in 3 hops.*grow_checkpoint\(.*hops=\[\{'depth': 2, 'seed'.*then verify BEFORE"
    ):
        growkernels.verify(source, out / "hops")
    growkernels.grow_checkpoint(source, tmp_path / "before", hops=[hop["options"] for hop in manifest.hops[:-1]])
    assert growkernels.verify(tmp_path / "before", out / "hops").passed
    with pytest.raises(GrowthError, match="is not the checkpoint that"):
        growkernels.verify(single[0], out / "hops")


def test_one_hop_before_the_last_is_named_by_its_options(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    growkernels.grow_checkpoint(source, tmp_path / "hops", hops=HOPS[:2], verify_logits=False)
    with pytest.raises(GrowthError, match=r"'BEFORE', \*\*\{'depth': 2, 'seed': 0\}\)"):
        growkernels.verify(source, tmp_path / "hops")


def test_nothing_is_left_of_a_growth_that_fails(tmp_path: Path) -> None:
    source = saved(tmp_path, "llama")
    growkernels.grow_checkpoint(source, tmp_path / "dst", depth=2, no_verify=True)
    before = json.loads((tmp_path / "dst" / "growkernels.json").read_text())
    # Only the model between shows that the second hop is too small.
    with pytest.raises(GrowthError, match=r"hop 2 of 2: .*num_layers 3 is less than the source's 4 layers"):
        growkernels.grow_checkpoint(source, tmp_path / "dst", hops=[{"depth": 2}, {"num_layers": 3}], overwrite=True)
    assert json.loads((tmp_path / "dst" / "growkernels.json").read_text()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", source.name]
    seen: list[str] = []

    def stop(stage: str, done: int, total: int) -> None:
        if seen and seen[-1] == "verifying" and stage == "growing":
            raise KeyboardInterrupt
        seen.append(stage)

    with pytest.raises(KeyboardInterrupt):
        growkernels.grow_checkpoint(source, tmp_path / "dst", hops=HOPS, overwrite=True, on_progress=stop)
    assert json.loads((tmp_path / "dst" / "growkernels.json").read_text()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dst", source.name]
    with pytest.raises(GrowthError, match="is the source itself"):
        growkernels.grow_checkpoint(source, source, hops=HOPS, overwrite=True)
    with pytest.raises(GrowthError, match="exists"):
        growkernels.grow_checkpoint(source, tmp_path / "dst", hops=HOPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": {"depth": 2}}, "hops is .*expected two or more"),
        ({"hops": [{"depth": 2}]}, "expected two or more"),
        ({"hops": [{"depth": 2}, "width"]}, "hop 2 of 2 is 'width'"),
        ({"hops": [{"depth": 2}, {"deep": 2}]}, "hop 2 of 2: .*deep"),
        ({"hops": HOPS, "width": 2, "seed": 1}, "hops and width both say what to grow"),
        ({"hops": [{"depth": 2, "seed": 3}, {"width": 2}], "seed": 1}, "seed stands in hop 1 and beside the hops"),
        ({"hops": HOPS, "seed": -1}, "seed is -1"),
        ({"hops": HOPS, "optimizer": True}, "hops take no fit, plan or optimizer"),
    ],
)
def test_refusals(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(GrowthError, match=message):
        growkernels.grow_checkpoint(saved(tmp_path, "llama"), tmp_path / "dst", **options)
    assert len(list(tmp_path.iterdir())) == 1
