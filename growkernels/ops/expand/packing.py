"""What `expand` is asked to do: stacks of layers with the matrices that grow them, and how they cross the op boundary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from growkernels.errors import GrowthError


class Expansion(NamedTuple):
    """One module's layers and their growth: `target[l] = B (sum_j depth[l, j] weights[j]) A^T`.

    weights: [L1, O, I], or L1 tensors [O, I], read in place; vectors: [L1, O], or L1 tensors [O].
    b: B [O', O], a: A [I', I], depth: [L2, L1]; None is the identity. A vector has one side: give `b` or `a`.
    structured: `b` and `a` hold only the rows below an identity, [O' - O, O] and [I' - I, I].
    """

    weights: Tensor | Sequence[Tensor]
    b: Tensor | None = None
    a: Tensor | None = None
    depth: Tensor | None = None
    structured: bool = False

    @property
    def layers(self) -> Sequence[Tensor]:
        """The source layers one by one."""
        return self.weights.unbind() if isinstance(self.weights, Tensor) else self.weights

    @property
    def target_layers(self) -> int:
        """L2."""
        return len(self.weights) if self.depth is None else self.depth.shape[0]

    @property
    def target_shape(self) -> tuple[int, int]:
        """O' and I', of weights that are matrices."""
        rows, columns = self.weights[0].shape
        return self._grown(rows, self.b), self._grown(columns, self.a)

    def _grown(self, size: int, matrix: Tensor | None) -> int:
        if matrix is None:
            return size
        return matrix.shape[0] + size if self.structured else matrix.shape[0]


T = TypeVar("T")


class Parts(NamedTuple, Generic[T]):
    """What belongs to each tensor of an expansion, such as its gradient; None for a matrix that is the identity."""

    weights: Sequence[T]
    b: T | None
    a: T | None
    depth: T | None
    structured: bool


_NUMBERS = 5


def pack(expansions: Sequence[Expansion]) -> tuple[list[Tensor], list[Tensor], list[int]]:
    """`weights`, `matrices` and `layout` of `expand`; see the schema. A matrix that several use is passed once."""
    weights: list[Tensor] = []
    matrices: list[Tensor] = []
    layout: list[int] = []
    for expansion in expansions:
        weights += expansion.layers
        layout.append(len(expansion.weights))
        for matrix in (expansion.b, expansion.a, expansion.depth):
            at = next((k for k, other in enumerate(matrices) if other is matrix), len(matrices))
            layout.append(-1 if matrix is None else at)
            if matrix is not None and at == len(matrices):
                matrices.append(matrix)
        layout.append(int(expansion.structured))
    return weights, matrices, layout


def unpack(weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int]) -> list[Expansion]:
    """The inverse of `pack`. Raises GrowthError for numbers that do not fit the lists."""
    return [Expansion(*parts) for parts in distribute(weights, matrices, layout)]


def distribute(weights: Sequence[T], matrices: Sequence[T], layout: Sequence[int]) -> list[Parts[T]]:
    """What belongs to the tensors that `pack` gave, expansion by expansion.

    Raises GrowthError for numbers that do not fit the lists.
    """
    found: list[Parts[T]] = []
    first = 0
    if len(layout) % _NUMBERS or sum(layout[::_NUMBERS]) != len(weights):
        raise GrowthError(
            f"layout has {len(layout)} numbers, for {sum(layout[::_NUMBERS])} of {len(weights)} weights; expected "
            f"{_NUMBERS} a stack, and all weights"
        )
    for at in range(0, len(layout), _NUMBERS):
        count, *where, structured = layout[at : at + _NUMBERS]
        if count < 1 or structured not in (0, 1) or not -1 <= min(where) <= max(where) < len(matrices):
            raise GrowthError(
                f"layout has {list(layout[at : at + _NUMBERS])} for a stack; expected its number of weights, where b, a and "
                f"depth are in {len(matrices)} matrices (-1: none), and 0 or 1"
            )
        b, a, depth = (None if k < 0 else matrices[k] for k in where)
        found.append(Parts(weights[first : first + count], b, a, depth, bool(structured)))
        first += count
    return found


def empty_targets(
    weights: Sequence[Tensor], matrices: Sequence[Tensor], layout: Sequence[int], dtype: torch.dtype
) -> list[Tensor]:
    """For each stack an uninitialized [L2, O', I']."""
    return [
        expansion.weights[0].new_empty((expansion.target_layers, *expansion.target_shape), dtype=dtype)
        for expansion in unpack(weights, matrices, layout)
    ]
