"""`tile`: the bits of the reference for every kind of rule, dtype and stride, from each variant of the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from growkernels import ops
from growkernels.errors import GrowthError
from growkernels.kernels.tile import tile
from growkernels.kernels.tile_pieces import TileJob, pieces
from growkernels.ops import Tile
from growkernels.ops.tile import reference as tile_reference
from growkernels.ops.tile.numbers import RuleNumbers
from growkernels.ops.tile.packing import pack
from tests.ops.rules import Choose, Seeded, rule
from tests.ops.tensors import DTYPES, LAYOUTS, POISON, assert_same_bits, data, laid_out, poisoned, with_special
from tests.ops.tools import Drawn

EIGHT = 8
#: A simpler example would take minutes to find.
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)


def whole_rule(choose: Choose, rows: int, cols: int) -> RuleNumbers:
    """Any rule in eights: what aligned variants take."""
    copies = choose.integer(1, 5)

    def axis(size: int, copies: int | None) -> tuple[int, ...]:
        flat: list[int] = []
        for _ in range(choose.integer(1, 2)):
            if choose.integer(0, 3) == 0:
                flat += [-1, EIGHT * choose.integer(1, 3), 1, 1]
            start = EIGHT * choose.integer(0, size // EIGHT - 1)
            groups = choose.pick((1, 1, 2))
            length = EIGHT * groups * choose.integer(0, (size - start) // (EIGHT * groups))
            flat += [start, length, copies or choose.integer(1, 3), groups]
        return tuple(flat)

    return replace(rule(choose, rows, cols), rows=axis(rows, None), cols=axis(cols, copies))


def job(choose: Choose, seed: int) -> TileJob:
    """One target that is not yet written, and its rule."""
    if choose.pick((False, True)):
        shape = EIGHT * choose.integer(1, 5), EIGHT * choose.integer(1, 40)
        spec, layouts = whole_rule(choose, *shape), ("contiguous", "contiguous", "transposed")
    else:
        shape = choose.integer(0, 40), choose.integer(0, 70)
        spec, layouts = rule(choose, *shape), LAYOUTS
    values = data(shape, choose.pick(DTYPES), seed)
    values = with_special(values) if choose.integer(0, 3) == 0 else values
    out = poisoned(spec.shape, choose.pick(DTYPES), choose.pick(layouts))
    return TileJob(out, laid_out(values, choose.pick(layouts)), spec)


def check(jobs: list[TileJob]) -> None:
    """Every target has the bits of the reference, and what lies between its entries is as it was."""
    expected = [poisoned(job.spec.shape, job.out.dtype) for job in jobs]
    tile_reference.tile_rules_(expected, [job.weight for job in jobs], [job.spec.tile() for job in jobs])
    tile(jobs)
    for each, right in zip(jobs, expected, strict=True):
        assert_same_bits(each.out, right)
        if each.out._base is not None:
            each.out.fill_(POISON)
            assert (each.out._base == each.out.new_full((), POISON)).all()


@settings(max_examples=10, phases=UNSHRUNK)
@given(st.data())
def test_rules_have_the_bits_of_the_reference(choices: st.DataObject) -> None:
    choose = Drawn(choices.draw)
    check([job(choose, seed) for seed in range(choose.integer(1, 2))])


def test_seeded_rules_have_the_bits_of_the_reference() -> None:
    # Far faster than drawn ones.
    for seed in range(20):
        check([job(Seeded(seed), seed)])


@pytest.mark.slow
def test_many_seeded_rules_have_the_bits_of_the_reference() -> None:
    for seed in range(1000, 1600):
        check([job(Seeded(seed), seed)])


ALIGNED, ODD, TINY = (
    ((0, 24, 2, 1), (0, 256, 2, 1)),
    ((0, 23, 1, 1), (1, 259, 2, 1)),
    ((0, 24, 2, 12), (0, 264, 2, 132)),
)
NEW = ((0, 24, 1, 1, -1, 16, 1, 1), (0, 264, 2, 1, -1, 24, 1, 1))
FILL = ((0.5, 0.0), (0.0, 0.02), (-3.0, 0.3))


@pytest.mark.parametrize(
    ("axes", "numbers", "expected"),
    [
        (ALIGNED, {}, {"kind": "move", "along": "columns", "rows": 8, "columns": 256}),
        (ALIGNED, {"divisor": 3.0}, {"kind": "scale", "divide": True}),
        (ALIGNED, {"divisor": 2.0, "shift": -1.0}, {"kind": "scale", "divide": False}),
        (ALIGNED, {"noise_std": 0.1}, {"kind": "noise", "quads": True, "triangle": False}),
        (ODD, {"noise_std": 0.1, "shift": 0.5}, {"kind": "noise", "along": "neither", "quads": False}),
        (
            TINY,
            {"noise_std": 0.1, "divisor": 2.0},
            {"kind": "noise", "scattered_rows": True, "scattered_columns": True},
        ),
        (TINY, {"diagonal": True}, {"scattered_columns": True, "diagonal": True}),
        ((TINY[0], ALIGNED[1]), {"noise_std": 0.1}, {"scattered_rows": True, "along": "columns", "quads": True}),
        (((0, 24, 1, 1), (0, 264, 5, 3)), {"noise_std": 0.1, "diagonal": True}, {"triangle": True, "quads": True}),
        (((0, 1, 1, 1), (0, 264, 3, 1)), {}, {"rows": 1, "columns": 2048}),
        (((0, 24, 6, 1), (0, 16, 2, 1)), {"divisor": 2.0}, {"rows": 32, "columns": 64}),
        (NEW, {"fill": FILL}, {"kind": "fill", "along": "columns"}),
        (NEW, {"fill": FILL}, {"kind": "draw", "along": "columns", "quads": True}),
        (ODD, {"fill": FILL}, {"kind": "move", "along": "neither"}),
        ((ODD[0] + (-1, 3, 1, 1), ODD[1]), {"fill": FILL}, {"kind": "draw", "quads": False}),
    ],
)
def test_every_variant(axes: tuple, numbers: dict, expected: dict) -> None:
    spec = RuleNumbers(*axes, **numbers, key=2**63 + 5)
    each = TileJob(poisoned(spec.shape, torch.bfloat16), data((24, 264), torch.bfloat16), spec)
    taken = [piece.variant._asdict() for piece in pieces(each)]
    assert any(expected.items() <= variant.items() for variant in taken), taken
    check([each])


def test_memory_along_columns_of_the_matrix() -> None:
    fill = ((0.0, 0.1),) * 3
    spec = RuleNumbers((0, 256, 2, 1, -1, 8, 1, 1), (0, 24, 2, 1), 2.0, noise_std=0.1, fill=fill, key=3)
    for source, target in ((torch.bfloat16, torch.float32), (torch.float16, torch.bfloat16)):
        weight = laid_out(data((256, 24), source), "transposed")
        each = TileJob(poisoned(spec.shape, target, "transposed"), weight, spec)
        variants = [piece.variant for piece in pieces(each)]
        assert {(v.kind, v.along, v.rows) for v in variants} == {("noise", "rows", 256), ("draw", "rows", 256)}
        check([each])
        # Without noise the axes change places.
        each = TileJob(each.out, weight, replace(spec, noise_std=0.0, fill=((0.5, 0.0),) * 3))
        assert {piece.variant.along for piece in pieces(each)} == {"columns"}
        check([each])


@example((3, 327), 3, 1, "symmetric", 40.0)  # a vector has no noise, however many copies
@example((0, 9), 2, 2, "symmetric", 10.0)
@settings(max_examples=4, phases=UNSHRUNK)
@given(
    st.tuples(st.integers(1, 33), st.integers(1, 130)),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from(["symmetric", "diagonal"]),
    st.sampled_from([10.0, 40.0]),
)
def test_measured_noise(shape: tuple[int, int], n_out: int, n_in: int, variant: str, snr_db: float) -> None:
    for dtype, weight in ((torch.bfloat16, data(shape, torch.float32)), (torch.float64, data(shape, torch.float16))):
        weight = weight[0] if n_in == 1 else weight
        arguments = weight, n_out, n_in, variant, None, snr_db, 7, dtype
        assert_same_bits(ops.tile(*arguments, backend="triton"), ops.tile(*arguments, backend="eager"))


def test_measured_noise_of_nothing_and_of_infinity() -> None:
    for value in (0.0, -0.0, float("inf"), float("nan")):
        weight = torch.full((8, 16), value)
        arguments = weight, 2, 2, "diagonal", None, 10.0, 7
        assert_same_bits(ops.tile(*arguments, backend="triton"), ops.tile(*arguments, backend="eager"))


def test_noise_too_small_for_float32_still_rounds_pairs() -> None:
    weight = data((8, 16))
    arguments = weight, 2, 2, "symmetric", 1e-60, None, 7
    assert_same_bits(ops.tile(*arguments, backend="triton"), ops.tile(*arguments, backend="eager"))


def test_arguments_that_do_not_fit_are_refused() -> None:
    out, weight = poisoned((16, 32), torch.float32), data((8, 16))
    op = torch.ops.growkernels_triton
    with pytest.raises(GrowthError, match="out has shape"):
        op.tile_(out[:15], weight, 2, 2, False, 0.0, None, 0)
    with pytest.raises(GrowthError, match="overlaps an input"):
        op.tile_(out, out[:8, :16], 2, 2, False, 0.0, None, 0)
    with pytest.raises(GrowthError, match="does not fit a source axis"):
        op.tile_rules_(*pack([out], [weight], [Tile.copies((16, 16), (1, 2))])[:4])
    with pytest.raises(GrowthError, match="out has shape"):
        op.replicate_([out], [weight], [0], [1.0], 0.0, 0.0, 0)
    with pytest.raises(GrowthError, match="entries of out share memory"):
        op.normal_(torch.ones(1).expand(9), 1, 1, 0)
    assert (out == POISON).all()
