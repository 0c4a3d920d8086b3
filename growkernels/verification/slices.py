"""Stored tensors against the eager reference, slice by slice, and against the source by folding the copies back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from growkernels.ops.arithmetic import compute_dtype
from growkernels.ops.tile.reference import tile_rule_slice
from growkernels.ops.tile.spec import TileSpec
from growkernels.plans import IndexVector, Plan, Rule
from growkernels.verification.learned import learned_error
from growkernels.verification.ulp import half_ulp

#: Slices of a tensor beside its two ends, and their largest size; smaller tensors are checked whole.
_SLICES, _ROWS, _COLUMNS = 3, 16, 256
#: Target rows of a matrix whose input copies are summed.
_FOLD_ROWS = 4
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class Tensors(Protocol):
    """Named tensors, read on demand: an opened checkpoint."""

    def tensor(self, name: str) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class SliceCheck:
    """What was compared, and the first difference if there was one."""

    tensors: int
    elements: int
    folded_rows: int
    #: Largest |sum of the copies - source| over its bound.
    fold: float
    problem: str | None = None
    #: Elements of learned tensors, which have a bound and no bits, and the largest error over it.
    learned_elements: int = 0
    learned: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every element compared was right."""
        return self.problem is None

    def lines(self) -> list[str]:
        """The findings in plain language."""
        if self.problem:
            return [self.problem]
        lines = []
        if self.elements:
            lines.append(f"{self.elements:,} elements from all {self.tensors} tensors equal the reference bit for bit")
        if self.learned_elements:
            lines.append(f"{self.learned_elements:,} elements from all {self.tensors} learned tensors equal the formula in "
                         f"float64 (error {self.learned:.2f} of the rounding bound)")  # fmt: skip
        if self.folded_rows:
            lines.append(f"copies summed back give the source's weights in {self.folded_rows:,} rows "
                         f"(error {self.fold:.2f} of the rounding bound)")  # fmt: skip
        return lines

    def to_json(self) -> dict[str, Any]:
        """A JSON object for the manifest."""
        return {"passed": self.passed, **asdict(self)}


def verify_slices(source: Tensors, target: Tensors, plan: Plan, *, seed: int = 0) -> SliceCheck:
    """Compare slices of every target tensor with the reference's, and sums over input copies with the source.

    Both ends and `_SLICES` random slices of each tensor must be equal bit for bit (small tensors whole). Memory is
    bounded by the slices, whatever the model's size. `plan` must hold the measured noise. The first difference is named.
    The tensors of learned growth are held to a bound of rounding (`learned_error`).
    """
    if plan.is_learned:
        return _verify_learned(source, target, plan, random.Random(seed))
    chooser = random.Random(seed)
    # Another order of the layers changes the function, not what each matrix computes.
    folds = all(claim.holds != "no" for claim in plan.claims if claim.part != "depth")
    elements = rows = 0
    worst = 0.0
    for rule in plan.rules:
        weight, grown = (_oriented(rule, source.tensor(rule.source)), _oriented(rule, target.tensor(rule.target)))
        spec = _spec(rule)
        for part_rows, part_columns in _slices(spec.shape, chooser):
            shape = tuple(grown.shape) if grown.ndim == 2 else (1, grown.numel())
            wanted = tile_rule_slice(weight, spec, shape, part_rows, part_columns, grown.dtype)
            found = grown.reshape(shape)[part_rows.start : part_rows.stop, part_columns.start : part_columns.stop]
            elements += found.numel()
            wrong = _differs(found, wanted)
            if wrong.any():
                row, column = (int(i) for i in wrong.nonzero()[0])
                place = _place(rule, part_rows.start + row, part_columns.start + column)
                problem = (
                    f"{rule.target}{place} is {found[row, column].item()!r}, the reference gives "
                    f"{wanted[row, column].item()!r} (from {rule.source})"
                )
                return SliceCheck(len(plan.rules), elements, rows, worst, problem)
        if folds and rule.kind == "linear" and rule.n_in > 1:
            for row in chooser.sample(range(grown.shape[0]), min(_FOLD_ROWS, grown.shape[0])):
                fraction, column = fold_error(weight, grown, rule, row)
                worst, rows = max(worst, fraction), rows + 1
                if not fraction <= 1:
                    problem = (
                        f"{rule.target}: in output row {row} the copies of input {column} do not sum up to the weight in "
                        f"{rule.source}: the error is {fraction:.3g} times what rounding can explain"
                    )
                    return SliceCheck(len(plan.rules), elements, rows, worst, problem)
    return SliceCheck(len(plan.rules), elements, rows, worst)


def _verify_learned(source: Tensors, target: Tensors, plan: Plan, chooser: random.Random) -> SliceCheck:
    assert plan.matrices is not None
    elements, worst = 0, 0.0
    problem = None
    for rule in plan.rules:
        weights = [source.tensor(name) for name in rule.sources]
        fraction, count, place, wanted = learned_error(
            rule, weights, target.tensor(rule.target), plan.matrices, chooser
        )
        elements, worst = elements + count, max(worst, fraction)
        if not fraction <= 1:
            problem = (
                f"{rule.target}{list(place)} is {target.tensor(rule.target)[place].item()!r}, the learned matrices give "
                f"{wanted!r}: the error is {fraction:.3g} times what rounding can explain"
            )
            break
    return SliceCheck(len(plan.rules), 0, 0, 0.0, problem, elements, worst)


def fold_error(weight: torch.Tensor, grown: torch.Tensor, rule: Rule, row: int) -> tuple[float, int]:
    """Sum over input copies of one output row of a grown matrix against the source's row: largest error over its bound.

    Returns the fraction and the source column it is found in. With stored copies T_j of a weight W, half an ulp h(T_j) of
    the stored format and the unit roundoff v of the arithmetic (2^-24, or 2^-53 in float64):

    * S_j = W/n or W, one division: error at most v |S_j|.
    * A copy rounded alone, T = store(S + e): h(T), v |S + e| for the sum, v |e| for the product in e.
    * A pair, B = store((S_a + S_b) - A): A's error cancels, as A is read back; h(B), and v |S_a + S_b|, v |B| for the sums.
    * The three copies of a triangle add z1, h z2 - z1/2 and -h z2 - z1/2: they sum to zero but for v of each.

    With |e| <= |T| + |S| to first order, each copy has at most h(T_j) + 4 v (|T_j| + |S_j|), and the |S_j| add up to |W|.
    The fifth v below stands for all products of two errors.
    """
    input_axis = rule.axes[rule.input_axis or 0]
    columns = torch.from_numpy(input_axis.indices())
    source_row = int(rule.axes[1 - (rule.input_axis or 0)].indices()[row])
    wanted, stored = weight[source_row].double(), grown[row].double()
    total, size, ulps = (torch.zeros_like(wanted) for _ in range(3))
    total.index_add_(0, columns, stored)
    size.index_add_(0, columns, stored.abs())
    ulps.index_add_(0, columns, half_ulp(stored, grown.dtype))
    unit = float(np.finfo(compute_dtype(weight.dtype, grown.dtype)).eps) / 2
    bound = ulps + 5 * unit * (size + wanted.abs())
    gap = (total - wanted).abs()
    # A weight that is not finite has no sum to compare; a sum that is not finite is an error without bound.
    fraction = torch.where((gap == 0) | ~wanted.isfinite(), 0.0, (gap / bound).nan_to_num(torch.inf))
    return float(fraction.max()), int(fraction.argmax())


def _spec(rule: Rule) -> TileSpec:
    # Read apart from the executor's own reading of a rule on purpose: the two must agree on every tensor.
    rows, columns = IndexVector.identity(1), IndexVector.identity(rule.spec.numel)
    if len(rule.axes) <= 2:
        rows, columns = (_row_axis(rule), rule.axes[-1 if rule.input_axis is None else rule.input_axis])
    noise = rule.noise
    return TileSpec(
        rows=rows.flat(),
        cols=columns.flat(),
        divisor=rule.divisor,
        shift=rule.shift,
        diagonal=rule.structure == "diagonal",
        noise_std=(noise.std or 0.0) if noise else 0.0,
        key=noise.key if noise else 0,
    )


def _row_axis(rule: Rule) -> IndexVector:
    if len(rule.axes) == 1:
        return IndexVector.identity(1)
    return rule.axes[1 if rule.input_axis == 0 else 0]


def _oriented(rule: Rule, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with its input axis last, as a view; more than two axes, which are only copied, as one row."""
    if tensor.ndim > 2:
        return tensor.reshape(-1)
    return tensor.T if tensor.ndim == 2 and rule.input_axis == 0 else tensor


def _place(rule: Rule, row: int, column: int) -> str:
    if len(rule.axes) != 2:
        return f"[{column}]"
    return f"[{column}, {row}]" if rule.input_axis == 0 else f"[{row}, {column}]"


def _slices(shape: tuple[int, int], chooser: random.Random) -> Iterator[tuple[range, range]]:
    rows, columns = shape
    height, width = min(rows, _ROWS), min(columns, _COLUMNS)
    if not rows * columns:
        return
    if rows * columns <= height * width * (_SLICES + 2):
        yield range(rows), range(columns)
        return
    corners = [(0, 0), (rows - height, columns - width)]
    inside = [(chooser.randint(0, rows - height), chooser.randint(0, columns - width)) for _ in range(_SLICES)]
    for top, left in corners + inside:
        yield range(top, top + height), range(left, left + width)


def _differs(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Where the bits differ; any NaN equals any other, as conversions may change a NaN's payload."""
    kind = _BITS[found.element_size()]
    return (found.contiguous().view(kind) != wanted.contiguous().view(kind)) & ~(found.isnan() & wanted.isnan())
