"""Slices and folded copies: whatever the reference grows passes, whatever differs by one bit is named."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from growkernels.ops.tile.reference import tile_rules_
from growkernels.plans import Claim, IndexVector, Noise, Plan, Rule, TensorSpec, Tile
from growkernels.verification.reading import read_tile
from growkernels.verification.slices import fold_error, half_ulp, verify_slices

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass
class Stored:
    tensors: dict[str, torch.Tensor]

    def tensor(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def one_rule(
    rows: int = 5, columns: int = 7, n_out: int = 2, n_in: int = 2, *, source: torch.dtype = torch.float32,
    target: torch.dtype = torch.float32, diagonal: bool = False, std: float = 0.3, transposed: bool = False,
    divisor: float | None = None,
) -> tuple[Stored, Stored, Plan]:  # fmt: skip
    """A matrix of normals, grown by the reference."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * 100 + columns)).to(source)
    tile = Tile(
        axes=(IndexVector.tile(rows, n_out), IndexVector.tile(columns, n_in)),
        sum_axis=1,
        divisor=(1.0 if diagonal else float(n_in)) if divisor is None else divisor,
        diagonal=diagonal,
        noise=Noise(std=float(np.float32(std))) if std and n_in > 1 else None,
        key=0x1234567890ABCDEF,
    )
    grown = torch.full(tile.shape, torch.nan, dtype=target)
    tile_rules_([grown], [weight], [tile])
    if transposed:
        weight, grown = weight.T.contiguous(), grown.T.contiguous()
        tile = replace(tile, axes=tile.axes[::-1], sum_axis=0)
    spec = TensorSpec(tile.shape, str(target).removeprefix("torch."))
    rule = Rule("layers.0.weight", ("layers.0.weight",), spec, tile, kind="linear")
    plan = Plan((rule,), {}, {}, (0,), {}, 0, (Claim("width", "up to rounding", ""),))
    return Stored({rule.source: weight}), Stored({rule.target: grown}), plan


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 300), n_out=st.integers(1, 3), n_in=st.integers(1, 5),
    source=st.sampled_from(DTYPES), target=st.sampled_from(DTYPES), diagonal=st.booleans(),
    std=st.sampled_from([0.0, 1e-3, 0.3, 3.0]), transposed=st.booleans(),
)  # fmt: skip
@example(40, 300, 2, 3, torch.bfloat16, torch.bfloat16, False, 3.0, True)
def test_what_the_reference_grows_passes(
    rows: int, columns: int, n_out: int, n_in: int, source: torch.dtype, target: torch.dtype, diagonal: bool, std: float,
    transposed: bool,
) -> None:  # fmt: skip
    checkpoints = one_rule(
        rows, columns, n_out, n_in, source=source, target=target, diagonal=diagonal, std=std, transposed=transposed
    )
    check = verify_slices(*checkpoints)
    assert check.passed, check.problem
    assert check.fold <= 1
    assert (check.folded_rows > 0) == (n_in > 1)


@given(element=st.integers(0, 139), bit=st.integers(0, 31), transposed=st.booleans())
def test_one_flipped_bit_is_named(element: int, bit: int, transposed: bool) -> None:
    source, target, plan = one_rule(transposed=transposed)
    flat = target.tensors["layers.0.weight"].view(-1).view(torch.int32)
    flat[element] ^= (1 << bit) if bit < 31 else -(1 << 31)
    check = verify_slices(source, target, plan)
    row, column = divmod(element, plan.rules[0].spec.shape[1])
    assert not check.passed
    assert f"layers.0.weight[{row}, {column}]" in check.problem
    assert check.lines() == [check.problem]


@pytest.mark.parametrize("damage", ["first", "last"])
def test_the_ends_of_large_tensors_are_always_read(damage: str) -> None:
    source, target, plan = one_rule(200, 700, 2, 2)
    target.tensors["layers.0.weight"].view(-1)[0 if damage == "first" else -1] += 1
    assert "layers.0.weight" in verify_slices(source, target, plan).problem


def test_a_large_tensor_wrong_throughout_is_found() -> None:
    source, target, plan = one_rule(200, 700, 2, 2, std=0.1)
    target.tensors["layers.0.weight"].mul_(1 + 2**-20)
    assert not verify_slices(source, target, plan).passed


@pytest.mark.parametrize("divisor", [1.0, 3.0, 2 * (1 + 2**-10)])
def test_a_plan_that_does_not_preserve_its_sums_is_found(divisor: float) -> None:
    """Bits equal to the reference's, but of a wrong rule: only the sum over copies can tell."""
    check = verify_slices(*one_rule(divisor=divisor))
    assert not check.passed
    assert "do not sum up" in check.problem


def test_another_order_of_layers_leaves_sums_to_check() -> None:
    source, target, plan = one_rule(divisor=3.0)
    plan = replace(plan, claims=(*plan.claims, Claim("depth", "no", "")))
    assert not verify_slices(source, target, plan).passed


def test_nan_equals_nan_whatever_its_payload() -> None:
    source, target, plan = one_rule(std=0.0)
    source.tensors["layers.0.weight"][1, 2] = torch.nan
    grown = target.tensors["layers.0.weight"].view(torch.int32)
    for row, column in ((1, 2), (6, 2), (1, 9), (6, 9)):
        grown[row, column] = 0x7FC00123
    assert verify_slices(source, target, plan).passed
    target.tensors["layers.0.weight"][6, 9] = 0.5
    assert not verify_slices(source, target, plan).passed


def test_an_overflow_is_no_rounding() -> None:
    source, target, plan = one_rule(target=torch.float16, std=0.0)
    target.tensors["layers.0.weight"][0, 0] = torch.inf
    data = plan.to_json()
    assert fold_error(next(read_tile(data["rules"][0], data["hows"][0]["tile"], source, target)), 0) == (torch.inf, 0)


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32))
@example(0.0)
@example(2.0**-149)
@example(2.0**-126)
@example(1.0)
def test_half_ulp_is_half_of_numpys_spacing(value: float) -> None:
    got = half_ulp(torch.tensor([value], dtype=torch.float64), torch.float32)
    assert got.item() == abs(float(np.spacing(np.abs(np.float32(value))))) / 2


@given(value=st.floats(-60000, 60000, allow_nan=False), dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_half_ulp_bounds_the_rounding(value: float, dtype: torch.dtype) -> None:
    stored = torch.tensor([value], dtype=torch.float64).to(torch.float32).to(dtype).double()
    exact = torch.tensor([value], dtype=torch.float32).double()
    assert (stored - exact).abs() <= half_ulp(stored, dtype)
