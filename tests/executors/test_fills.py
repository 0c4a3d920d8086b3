"""Entries without a source, by files and in memory: zeros, constants, normals of a given or a measured strength."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.executors import open_source, read_manifest
from growkernels.executors.measure import with_fills
from growkernels.executors.preflight import prepare
from growkernels.executors.run import peak_memory, run
from growkernels.plans import Fill, IndexVector, Plan, Rule, TensorSpec, Tile
from growkernels.verification.slices import verify_slices
from tests.executors.support import grow, plan, write_source

DRAWN = [0, 1, 2, -1, -1, 5, 6, 7]


def values() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "w": torch.randn(8, 6, generator=generator) + 2,
        "v": torch.randn(8, generator=generator) - 3,
        "stack": torch.randn(3, 8, 6, generator=generator),
    }


def planned(*rules: Rule) -> Plan:
    return replace(plan(), rules=rules)


def rule(target: str, tile: Tile, *sources: str) -> Rule:
    return Rule(target, sources, TensorSpec(tile.shape, "float32"), tile)


def rules() -> tuple[Rule, ...]:
    """Rows of `w` redrawn as they were, the same of `v`, new columns, and tensors that draw on nothing."""
    some, measured = IndexVector.gather(DRAWN), (Fill.measured(), Fill.measured(), Fill.measured())
    ids = IndexVector.identity
    return (
        rule("rows", Tile((some, ids(6)), 1, fill=measured, key=4), "w"),
        rule("columns", Tile((some, ids(6)), 0, fill=measured, key=5), "w"),
        rule("vector", Tile((some,), fill=measured, key=6), "v"),
        rule("stack", Tile((ids(3), some, ids(6)), 2, fill=measured, key=7), "stack"),
        rule(
            "extended", Tile((ids(8), IndexVector.extend(6, 3)), 1, fill=(Fill(0.0, 0.5), Fill(), Fill()), key=8), "w"
        ),
        rule("zeros", Tile.zeros((5, 4), 1)),
        rule("kept", Tile.zeros((8, 6), 1), "w"),
        rule("constant", Tile.filled((4,), Fill(-1.5))),
        rule("normal", Tile.filled((40, 50), Fill(1.0, 0.25), 1, key=9)),
    )


class Memory:
    """A sink that holds what it is given."""

    bucket = 1 << 20

    def __init__(self) -> None:
        self.made: dict[str, torch.Tensor] = {}

    def empty(self, one: Rule, device: torch.device) -> torch.Tensor:
        return torch.full(one.spec.shape, torch.nan, device=device)

    def done(self, one: Rule, tensor: torch.Tensor) -> None:
        self.made[one.target] = tensor


def in_memory(folder: Path) -> dict[str, torch.Tensor]:
    source, sink = open_source(folder), Memory()
    prepared = prepare(source, rules(), lambda device: {})
    needed = peak_memory(source, prepared, sink.bucket, lambda name: False)
    assert needed == {torch.device("cpu"): sum(one.spec.nbytes for one in prepared)}
    run(source, prepared, sink, lambda device: {})
    return sink.made


def test_files_and_memory_hold_the_same(tmp_path: Path) -> None:
    source = values()
    write_source(tmp_path / "src", source)
    done = grow(tmp_path / "src", tmp_path / "dst", planned(*rules()))
    stored = load_file(tmp_path / "dst" / "model.safetensors")
    for name, value in in_memory(tmp_path / "src").items():
        assert torch.equal(stored[name].view(torch.int32), value.view(torch.int32)), name
    old = [i >= 0 for i in DRAWN]
    assert torch.equal(stored["rows"][old], source["w"][old])
    assert torch.equal(stored["vector"][old], source["v"][old])
    assert torch.equal(stored["stack"][:, old], source["stack"][:, old])
    assert torch.equal(stored["extended"][:, :6], source["w"])
    assert not stored["zeros"].any() and not stored["kept"].any() and (stored["constant"] == -1.5).all()
    # 2000 draws: five standard errors of the mean and of the standard deviation.
    assert abs(stored["normal"].mean() - 1) < 5 * 0.25 / 2000**0.5
    assert abs(stored["normal"].std() - 0.25) < 5 * 0.25 / 4000**0.5
    new = [i < 0 for i in DRAWN]
    by_name = {one.target: one.how for one in done.rules}
    for name, replaced in (
        ("rows", source["w"][new]), ("columns", source["w"][new]), ("vector", source["v"][new]),
        ("stack", source["stack"][:, new]),
    ):  # fmt: skip
        wanted = replaced.double().numpy()
        found = by_name[name].fill[0 if name in ("columns", "vector") else 1]
        assert found == Fill(float(np.float32(wanted.mean())), float(np.float32(wanted.std()))), name
        other = by_name[name].fill[2]
        assert other == Fill()
    assert read_manifest(tmp_path / "dst").plan == done
    check = verify_slices(open_source(tmp_path / "src"), open_source(tmp_path / "dst"), done)
    assert check.passed and check.elements == sum(one.spec.numel for one in done.rules)


@pytest.mark.parametrize("name", [one.target for one in rules()])
def test_one_other_bit_is_found(tmp_path: Path, name: str) -> None:
    write_source(tmp_path / "src", values())
    done = grow(tmp_path / "src", tmp_path / "dst", planned(*rules()))
    grown = open_source(tmp_path / "dst")

    class Damaged:
        def tensor(self, one: str) -> torch.Tensor:
            value = grown.tensor(one).clone()
            if one == name:
                value.view(-1)[-1] += 1
            return value

    check = verify_slices(open_source(tmp_path / "src"), Damaged(), done)
    last = [size - 1 for size in grown.tensors[name].shape]
    assert check.problem is not None and check.problem.startswith(f"{name}{last} is ")


def test_a_source_that_nothing_is_drawn_from_may_hold_anything(tmp_path: Path) -> None:
    source = values()
    source["w"][0, 0] = torch.nan
    write_source(tmp_path / "src", source)
    zeros = rule("zeros", Tile.zeros((8, 6), 1), "w")
    grow(tmp_path / "src", tmp_path / "dst", planned(zeros))
    assert not load_file(tmp_path / "dst" / "model.safetensors")["zeros"].any()
    with pytest.raises(GrowthError, match="w has 1 NaN"):
        grow(tmp_path / "src", tmp_path / "other", planned(rules()[0]))


def test_nothing_replaced_is_nothing_to_measure() -> None:
    extended = Tile((IndexVector.identity(8), IndexVector.extend(6, 2)), 1, fill=(Fill.measured(), Fill(), Fill()))
    with pytest.raises(
        GrowthError, match=r"extended replaces no entries .* to measure its fill on; give Fill\(mean, std\)"
    ):
        with_fills(rule("extended", extended, "w"), [values()["w"]])


def test_new_entries_are_no_part_of_the_source() -> None:
    """`check_fit` took the length of new entries for source indices."""
    out, tile = torch.full((4, 14), torch.nan), Tile((IndexVector.identity(4), IndexVector.extend(4, 10)), 1)
    assert tile.source_shape == (4, 4)
    ops.tile_rules_([out], [torch.ones(4, 4)], [tile])
    assert out.sum() == 16


def test_new_entries_longer_than_the_source_fit_it(tmp_path: Path) -> None:
    write_source(tmp_path / "src", values())
    extended = Tile((IndexVector.extend(8, 30), IndexVector.extend(6, 10)), 1)
    grow(tmp_path / "src", tmp_path / "dst", planned(rule("w", extended, "w")))
    stored = load_file(tmp_path / "dst" / "model.safetensors")["w"]
    assert torch.equal(stored[:8, :6], values()["w"]) and stored.count_nonzero() == 48
