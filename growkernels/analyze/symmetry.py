"""Symmetry of every matrix, by layer and kind, and of the vectors beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from growkernels.analyze.blocks import compare_blocks
from growkernels.analyze.copies import Copies, block_of, counted
from growkernels.analyze.matrices import Checkpoint


@dataclass(frozen=True, slots=True)
class Symmetry:
    """How alike the copies in one matrix, or one part of it, are.

    Attributes:
        name: The tensor.
        kind: Its name with `{}` for the layer, and the part of a fused matrix.
        layer: The layer's number; None outside.
        copies: Copies of outputs and of inputs.
        found: Whether these copies were found; otherwise they are halves that are compared to show what chance gives.
        pattern: `all copies alike` or `diagonal`.
        cosine: Mean cosine between copies.
        chance: The same between features that do not belong together.
        distance: Root mean square difference of neighboring copies as a share of their norm; 0 if all are equal.
        sum_distance: How far sums over the input copies differ between output copies; None where only one axis has copies.
    """

    name: str
    kind: str
    layer: int | None
    copies: tuple[int, int]
    found: bool
    pattern: str
    cosine: float
    chance: float
    distance: float
    sum_distance: float | None


@dataclass(frozen=True, slots=True)
class VectorSymmetry:
    """Whether the copies in a norm or bias are equal.

    Attributes:
        name: The tensor.
        copies: How many.
        distance: As in `Symmetry`.
    """

    name: str
    copies: int
    distance: float


def measure_symmetry(checkpoint: Checkpoint, copies: Copies) -> list[Symmetry]:
    """Compare all copies of all matrices, in one pass over the file.

    Args:
        checkpoint: What is analyzed.
        copies: How many copies there are of what axes count.

    Returns:
        One entry for each matrix or part of one whose axes can be divided at all.
    """
    entries = []
    for weight in checkpoint.matrices:
        for label, rows, columns in weight.pieces():
            n_out, n_in = copies[counted(rows)], copies[counted(columns)]
            found = (n_out, n_in) != (1, 1)
            if not found:
                n_out, n_in = (2 if size % 2 == 0 else 1 for size in (rows.size, columns.size))
            block = block_of(weight, rows, columns)
            statistics = compare_blocks(block, n_out, n_in)
            best = statistics.symmetry()
            if best is None or not statistics.norm:
                continue
            pattern, likeness = best
            entries.append(
                Symmetry(
                    weight.name,
                    label,
                    weight.layer,
                    (n_out, n_in),
                    found,
                    pattern,
                    likeness.cosine,
                    likeness.chance,
                    likeness.distance,
                    statistics.sum_distance,
                )
            )
    return entries


def vector_symmetry(checkpoint: Checkpoint, copies: Copies) -> list[VectorSymmetry]:
    """Compare the copies of the vectors that are not constant.

    Args:
        checkpoint: What is analyzed.
        copies: How many copies there are of what axes count.

    Returns:
        One entry for each such vector. Constants (norms of ones, biases of zeros) are equal in any model, and left out.
    """
    return [
        VectorSymmetry(weight.name, n, _distance(weight.view, n))
        for weight in checkpoint.weights
        if weight.view.dim() == 1
        and len(weight.outputs) == 1
        and (n := copies.get(counted(weight.outputs[0]), 1)) > 1
        and not _constant(weight.view)
    ]


def _constant(vector: torch.Tensor) -> bool:
    return bool((vector == vector[0]).all())


def _distance(vector: torch.Tensor, n: int) -> float:
    parts = vector.double().view(n, -1)
    centered = vector.double() - vector.double().mean()
    return float((parts - parts.roll(-1, 0)).norm() / centered.norm())
