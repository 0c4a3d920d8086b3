"""Stored tensors against the eager reference, slice by slice, and against the source by folding the copies back."""

from __future__ import annotations

import random
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from growkernels.ops.arithmetic import compute_dtype
from growkernels.plans import Learned, Plan, Rule, Tile
from growkernels.verification.learned import learned_error, learned_places
from growkernels.verification.reading import Reading, Tensors, read_tile
from growkernels.verification.ulp import half_ulp

#: Slices of a tensor beside its two ends, and their largest size; smaller tensors are checked whole.
_SLICES, _ROWS, _COLUMNS = 3, 16, 256
#: Target rows of a matrix whose input copies are summed.
_FOLD_ROWS = 4
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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


def verify_slices(
    source: Tensors, target: Tensors, plan: Plan, *, seed: int = 0, mine: Container[str] | None = None
) -> SliceCheck:
    """Compare slices of every target tensor with the reference's, and sums over input copies with the source.

    Both ends and `_SLICES` random slices of each tensor must be equal bit for bit (small tensors whole). Memory is
    bounded by the slices, whatever the model's size. `plan` must hold the measured noise; it is read as the JSON that its
    manifest holds. The first difference is named. The tensors of learned growth are held to a bound of rounding
    (`learned_error`).

    mine: names of the tensors to look at, None for all; the slices of each are the same either way. `tensors` counts them.
    """
    chooser = random.Random(seed)
    # Another order of the layers changes the function, not what each matrix computes.
    folds = all(claim.holds != "no" for claim in plan.claims if claim.part != "depth")
    # Other operators divide features by numbers of their own, or scale the stream.
    folds = folds and plan.options.get("width_operator", "hypercloning") == "hypercloning"
    data = plan.to_json()
    found, problem = _Findings(), None
    for rule, row in zip(plan.rules, data["rules"], strict=True):
        looked_at = mine is None or rule.target in mine
        found.tensors += looked_at
        match rule.how:
            case Learned() as learned:
                chosen = learned_places(learned, chooser)
                if looked_at:
                    problem = _check_learned(source, target, rule, learned, plan.matrices or {}, chosen, found)
            case Tile():
                for reading in read_tile(row, data["hows"][row["how"]]["tile"], source, target):
                    places, rows = list(_slices(reading.tile.shape, chooser)), _fold_rows(reading, folds, chooser)
                    if looked_at and problem is None:
                        problem = _check_tile(reading, places, rows, found)
        if problem is not None:
            break
    return SliceCheck(
        found.tensors, found.elements, found.rows, found.fold, problem, found.learned_elements, found.learned
    )


def joined(checks: Sequence[SliceCheck]) -> SliceCheck:
    """The findings on disjoint parts of the tensors as one."""
    return SliceCheck(
        tensors=sum(check.tensors for check in checks),
        elements=sum(check.elements for check in checks),
        folded_rows=sum(check.folded_rows for check in checks),
        fold=max(check.fold for check in checks),
        problem=next((check.problem for check in checks if check.problem is not None), None),
        learned_elements=sum(check.learned_elements for check in checks),
        learned=max(check.learned for check in checks),
    )


@dataclass
class _Findings:
    """Counts and largest errors so far, as in `SliceCheck`."""

    tensors: int = 0
    elements: int = 0
    rows: int = 0
    fold: float = 0.0
    learned_elements: int = 0
    learned: float = 0.0


def _fold_rows(reading: Reading, folds: bool, chooser: random.Random) -> list[int]:
    """The rows whose copies are summed: some of a matrix whose input is whole copies, none of other tensors."""
    tile = reading.tile
    copied = tile.axes[1].uniform and not tile.axes[0].has_new
    if not (folds and reading.kind == "linear" and reading.is_summed and copied and tile.n_in > 1):
        return []
    return chooser.sample(range(tile.shape[0]), min(_FOLD_ROWS, tile.shape[0]))


def _check_tile(
    reading: Reading, places: Sequence[tuple[range, range]], rows: Sequence[int], found: _Findings
) -> str | None:
    """The first difference of a copied tensor, if there is one."""
    grown = reading.grown
    for part_rows, part_columns in places:
        wanted = reading.wanted(part_rows, part_columns)
        stored = reading.rows_of(grown, part_rows)[:, part_columns.start : part_columns.stop]
        found.elements += stored.numel()
        wrong = _differs(stored, wanted)
        if wrong.any():
            row, column = (int(i) for i in wrong.nonzero()[0])
            place = reading.place(part_rows.start + row, part_columns.start + column)
            made = f" (from {reading.source})" if reading.source else ""
            return (
                f"{reading.target}{place} is {stored[row, column].item()!r}, the reference gives "
                f"{wanted[row, column].item()!r}{made}"
            )
    for row in rows:
        fraction, column = fold_error(reading, row)
        found.fold, found.rows = max(found.fold, fraction), found.rows + 1
        if not fraction <= 1:
            return (
                f"{reading.target}: in output row {row} the copies of input {column} do not sum up to the weight in "
                f"{reading.source}: the error is {fraction:.3g} times what rounding can explain"
            )
    return None


def _check_learned(
    source: Tensors,
    target: Tensors,
    rule: Rule,
    learned: Learned,
    matrices: Mapping[str, np.ndarray],
    chosen: tuple[list[int], list[int]],
    found: _Findings,
) -> str | None:
    """The first error of a learned tensor that rounding cannot explain, if there is one."""
    weights, grown = [source.tensor(name) for name in rule.sources], target.tensor(rule.target)
    fraction, count, place, wanted = learned_error(learned, weights, grown, matrices, *chosen)
    found.learned_elements, found.learned = found.learned_elements + count, max(found.learned, fraction)
    if fraction <= 1:
        return None
    return (
        f"{rule.target}{list(place)} is {grown[place].item()!r}, the learned matrices give {wanted!r}: the error is "
        f"{fraction:.3g} times what rounding can explain"
    )


def fold_error(reading: Reading, row: int) -> tuple[float, int]:
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
    weight, grown = reading.weight, reading.grown
    outputs, inputs = reading.tile.axes
    columns = torch.from_numpy(inputs.indices())
    wanted = reading.rows_of(weight, [int(outputs.indices()[row])])[0].double()
    stored = reading.rows_of(grown, [row])[0].double()
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


def _slices(shape: tuple[int, ...], chooser: random.Random) -> Iterator[tuple[range, range]]:
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
    differs = found.contiguous().view(kind) != wanted.contiguous().view(kind)
    # Single bytes are codes, and never converted.
    return differs if kind == torch.uint8 else differs & ~(found.isnan() & wanted.isnan())
